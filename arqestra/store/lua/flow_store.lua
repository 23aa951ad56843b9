-- Store a piece of a flow that has not started, or of the next round of one that has ended. Nothing of it takes effect
-- before flow_start; a producer that dies in between leaves what goes away by itself.
--
-- ARGV  1: time in ms or ''
--       2: flow
--       3: nonce of the producer
--       4: fields of the record
--       5: of its nodes
--       6: of joins
--       then fields and values of each
-- RETURNS  'stored' | 'exists' another producer's flow, or it has started | 'taken' a chosen job id exists

local UNFINISHED_TTL_MS = 3600000

return function(c, argv)
  local flow, nonce = argv[2], argv[3]

  -- Whose node an id is to be of: an abort finds it by that.
  local function claim_on(field)
    return nonce .. ' ' .. string.sub(field, 1, -2) .. ' ' .. flow
  end

  -- Nobody else can take the id until its node is released.
  local function reserve(field, id)
    if call('EXISTS', c.k.JOB .. id, c.k.RESULT .. id, c.k.LEASE .. id) > 0 then
      return false
    end
    call('SET', c.k.RESERVED .. id, claim_on(field), 'NX', 'PX', UNFINISHED_TTL_MS)
    return call('GET', c.k.RESERVED .. id) == claim_on(field)
  end

  local known, state = unpack(call('HMGET', c.k.FLOW .. flow, 'nonce', 'state'))
  if (known and known ~= nonce) or state == 'running' then
    if state or argv[4] == '0' then
      return 'exists'
    end
    call('DEL', c.k.FLOW .. flow, c.k.NODES .. flow, c.k.PENDING .. flow)  -- of a producer that did not come to start it
  end
  local at = 7
  for i, prefix in ipairs({ c.k.FLOW, c.k.NODES, c.k.PENDING }) do
    local name = prefix .. flow
    local last = at + 2 * tonumber(argv[3 + i]) - 1
    for first = at, last, BATCH do
      call('HSET', name, unpack(argv, first, math.min(first + BATCH - 1, last)))
    end
    if not state then
      call('PEXPIRE', name, UNFINISHED_TTL_MS)
    end
    if prefix == c.k.NODES then
      for i = at, last, 2 do
        if string.sub(argv[i], -1) == 'i' and not reserve(argv[i], argv[i + 1]) then
          if not state then
            for j = at, i, 2 do
              if string.sub(argv[j], -1) == 'i' and call('GET', c.k.RESERVED .. argv[j + 1]) == claim_on(argv[j]) then
                call('DEL', c.k.RESERVED .. argv[j + 1])
              end
            end
            call('DEL', c.k.FLOW .. flow, c.k.NODES .. flow, c.k.PENDING .. flow)
          end
          return 'taken'
        end
      end
    end
    at = last + 1
  end
  return 'stored'
end
