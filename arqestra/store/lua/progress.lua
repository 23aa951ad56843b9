-- What running jobs tell of themselves: progress, and lines of their logs.
--
-- ARGV  1: time in ms or ''
--       2: ttl in ms
--       3: lines that are kept of a job
--       then for each job: id, token of its lease, number of this call within the attempt, when the job was enqueued,
--       '1' if Redis has taken the outcome of this attempt, progress or '', how many lines follow, the lines
-- RETURNS  for each job: 'written' | 'leased' somebody else holds it, or a later job has its id | 'free' nobody holds it
--
-- Only who has the lease may write: a worker that was thought dead finds none when the job has ended elsewhere. The last
-- lines of an attempt may come after its end; its worker knows then that its own outcome was the one that was taken. What
-- an earlier job of the same id told is dropped. Repeating the call is harmless.
-- USES  Lease

local CRON_HAS_ENDED = '1'  -- the id of a cron job stays taken for a minute

return function(c, argv)
  local taken, i = {}, 4
  while i <= #argv do
    local id, token, number, enqueued = argv[i], argv[i + 1], argv[i + 2], argv[i + 3]
    local ended, progress, lines = argv[i + 4] == '1', argv[i + 5], tonumber(argv[i + 6])
    i = i + 7
    local lease = call('GET', c.k.LEASE .. id)
    local record, log = c.k.PROGRESS .. id, c.k.JOB_LOG .. id
    local writer = token .. '#' .. number
    local known = call('HMGET', record, 'enqueued', 'writer')
    local verdict = 'written'
    if lease and not Lease.has_token(lease, token) and not (ended and lease == CRON_HAS_ENDED) then
      verdict = 'leased'
    elseif not lease and not ended then
      verdict = 'free'
    elseif known[1] and tonumber(known[1]) > tonumber(enqueued) then
      verdict = 'leased'
    elseif known[2] ~= writer then
      if known[1] and known[1] ~= enqueued then
        call('DEL', record, log)
      end
      call('HSET', record, 'enqueued', enqueued, 'writer', writer)
      if progress ~= '' then
        call('HSET', record, 'progress', progress)
      end
      if lines > 0 then
        for at = i, i + lines - 1 do
          call('RPUSH', log, argv[at])
        end
        call('LTRIM', log, -tonumber(argv[3]), -1)
        call('PEXPIRE', log, argv[2])
      end
      call('PEXPIRE', record, argv[2])
    end
    taken[#taken + 1] = verdict
    i = i + lines
  end
  return taken
end
