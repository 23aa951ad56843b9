-- Extend the leases of one worker. A lease that ran out but that nobody took (Redis was away) is extended as well: the
-- record outlives the lease for that.
--
-- ARGV  1: time in ms or ''
--       2: lease in ms
--       3: ms that the record outlives the lease
--       4: '1' report all aborts, else those alone that a worker obeys in any case
--       then for each lease: id, queue, token
-- RETURNS  { lost, to be aborted }, each a list of numbers of the leases given, from 1
-- USES  Lease
-- FLAGS  allow-oom

return function(c, argv)
  local lease_ms, margin_ms = tonumber(argv[2]), tonumber(argv[3])
  local lost, aborted = {}, {}
  local scores = {}            -- queue -> score, id, score, id, ...
  local report_aborts = argv[4] == '1'
  local has_aborts = call('EXISTS', c.k.ABORTS) == 1

  local names = {}
  for i = 5, #argv, 3 do
    names[#names + 1] = c.k.LEASE .. argv[i]
  end
  local leases = call('MGET', unpack(names))

  for i = 5, #argv, 3 do
    local id, queue, token = argv[i], argv[i + 1], argv[i + 2]
    local number = (i - 2) / 3
    local lease = leases[number]
    if Lease.has_token(lease, token) then
      local rest = string.match(lease, '|%d+(|%-?%d+|%d+)$')
      call('PERSIST', c.k.JOB .. id)  -- a stock producer's payload has a TTL; a job in progress must not lose it
      call('SET', c.k.LEASE .. id, token .. '|' .. c.now + lease_ms .. rest, 'PX', lease_ms + margin_ms)
      local list = scores[queue]
      if not list then
        list = {}
        scores[queue] = list
      end
      list[#list + 1] = c.now + lease_ms
      list[#list + 1] = id
      local requested = has_aborts and call('ZSCORE', c.k.ABORTS, id)
      if requested and (report_aborts or requested % 1 > 0) then  -- with a fraction: of a flow that was cancelled
        aborted[#aborted + 1] = number
      end
    else
      lost[#lost + 1] = number
    end
  end
  for queue, list in pairs(scores) do
    call('ZADD', c.k.QUEUE .. queue, 'XX', unpack(list))
  end
  return { lost, aborted }
end
