-- Store a piece of a flow that has not started, or of the next round of one that has ended. Nothing of it takes effect
-- before flow_start; a producer that dies in between leaves what goes away by itself.
--
-- KEYS  1: the flow's record
-- ARGV  1: time in ms or ''   2: flow   3: nonce of the producer   4: fields of the record   5: of its nodes   6: of joins
--       then fields and values of each
-- RETURNS  'stored' | 'exists' another producer's flow, or it has started | 'taken' a chosen job id exists

-- @include _clock

local UNFINISHED_TTL_MS = 3600000

local flow, nonce = ARGV[2], ARGV[3]

-- Whose node an id is to be of: an abort finds it by that.
local function claim_on(field)
  return nonce .. ' ' .. string.sub(field, 1, -2) .. ' ' .. flow
end

-- Nobody else can take the id until its node is released.
local function reserve(field, id)
  if call('EXISTS', JOB .. id, RESULT .. id, LEASE .. id) > 0 then
    return false
  end
  call('SET', RESERVED .. id, claim_on(field), 'NX', 'PX', UNFINISHED_TTL_MS)
  return call('GET', RESERVED .. id) == claim_on(field)
end

local known, state = unpack(call('HMGET', FLOW .. flow, 'nonce', 'state'))
if (known and known ~= nonce) or state == 'running' then
  if state or ARGV[4] == '0' then
    return 'exists'
  end
  call('DEL', FLOW .. flow, NODES .. flow, PENDING .. flow)  -- of a producer that did not come to start it
end
local at = 7
for i, prefix in ipairs({ FLOW, NODES, PENDING }) do
  local name = prefix .. flow
  local last = at + 2 * tonumber(ARGV[3 + i]) - 1
  for first = at, last, BATCH do
    call('HSET', name, unpack(ARGV, first, math.min(first + BATCH - 1, last)))
  end
  if not state then
    call('PEXPIRE', name, UNFINISHED_TTL_MS)
  end
  if prefix == NODES then
    for i = at, last, 2 do
      if string.sub(ARGV[i], -1) == 'i' and not reserve(ARGV[i], ARGV[i + 1]) then
        if not state then
          for j = at, i, 2 do
            if string.sub(ARGV[j], -1) == 'i' and call('GET', RESERVED .. ARGV[j + 1]) == claim_on(ARGV[j]) then
              call('DEL', RESERVED .. ARGV[j + 1])
            end
          end
          call('DEL', FLOW .. flow, NODES .. flow, PENDING .. flow)
        end
        return 'taken'
      end
    end
  end
  at = last + 1
end
return 'stored'
