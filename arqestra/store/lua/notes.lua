-- What running jobs tell of themselves: progress, and lines of their logs.
--
-- KEYS  1: queue of the first job (for routing)
-- ARGV  1: time in ms or ''   2: ttl in ms   3: lines that are kept of a job
--       then for each job: id, token of its lease, number of this call within the attempt, when the job was enqueued,
--       progress or '', how many lines follow, the lines
-- RETURNS  how many jobs were written
--
-- A job that somebody else holds is left alone. One that has ended is not: its last lines come a moment later. What an
-- earlier job of the same id told is dropped. Repeating the call is harmless.

local written, i = 0, 4
while i <= #ARGV do
  local id, token, number, enqueued, progress, lines =
    ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], tonumber(ARGV[i + 5])
  i = i + 6
  local lease = call('GET', LEASE .. id)
  local notes, log = NOTES .. id, JOB_LOG .. id
  local writer = token .. '#' .. number
  local known = call('HMGET', notes, 'enqueued', 'writer')
  local is_ours = not lease or string.sub(lease, 1, #token + 1) == token .. '|'
  if is_ours and known[2] ~= writer then
    if known[1] and known[1] ~= enqueued then
      call('DEL', notes, log)
    end
    call('HSET', notes, 'enqueued', enqueued, 'writer', writer)
    if progress ~= '' then
      call('HSET', notes, 'progress', progress)
    end
    if lines > 0 then
      for at = i, i + lines - 1 do
        call('RPUSH', log, ARGV[at])
      end
      call('LTRIM', log, -tonumber(ARGV[3]), -1)
      call('PEXPIRE', log, ARGV[2])
    end
    call('PEXPIRE', notes, ARGV[2])
    written = written + 1
  end
  i = i + lines
end
return written
