-- What running jobs tell of themselves: progress, and lines of their logs.
--
-- KEYS  1: progress of the first job (for routing)
-- ARGV  1: time in ms or ''   2: ttl in ms   3: lines that are kept of a job
--       then for each job: id, token of its lease, number of this call within the attempt, when the job was enqueued,
--       '1' if Redis has taken the outcome of this attempt, progress or '', how many lines follow, the lines
-- RETURNS  for each job: 'written' | 'leased' somebody else holds it, or a later job has its id | 'free' nobody holds it
--
-- Only who has the lease may write: a worker that was thought dead finds none when the job has ended elsewhere. The last
-- lines of an attempt may come after its end; its worker knows then that its own outcome was the one that was taken. What
-- an earlier job of the same id told is dropped. Repeating the call is harmless.

-- @include _lease

local CRON_HAS_ENDED = '1'  -- the id of a cron job stays taken for a minute

local taken, i = {}, 4
while i <= #ARGV do
  local id, token, number, enqueued = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local ended, progress, lines = ARGV[i + 4] == '1', ARGV[i + 5], tonumber(ARGV[i + 6])
  i = i + 7
  local lease = call('GET', LEASE .. id)
  local record, log = PROGRESS .. id, JOB_LOG .. id
  local writer = token .. '#' .. number
  local known = call('HMGET', record, 'enqueued', 'writer')
  local verdict = 'written'
  if lease and not has_token(lease, token) and not (ended and lease == CRON_HAS_ENDED) then
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
        call('RPUSH', log, ARGV[at])
      end
      call('LTRIM', log, -tonumber(ARGV[3]), -1)
      call('PEXPIRE', log, ARGV[2])
    end
    call('PEXPIRE', record, ARGV[2])
  end
  taken[#taken + 1] = verdict
  i = i + lines
end
return taken
