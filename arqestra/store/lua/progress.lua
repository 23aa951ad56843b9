-- What running jobs tell of themselves: progress, and lines of their logs.
--
-- Only who has the lease may write: a worker that was thought dead finds none when the job has ended elsewhere. The
-- last lines of an attempt may come after its end; its worker knows then that its own outcome was the one that was
-- taken. What an earlier job of the same id told is dropped.
--
-- ARGV  1: time in ms or ''
--       2: ttl in ms
--       3: lines that are kept of a job
--       then for each job: id, token of its lease, number of this call within the attempt, when the job was enqueued in
--       ms, '1' if Redis has taken the outcome of this attempt, progress or '', how many lines follow, the lines
-- RETURNS  for each job: 'written' | 'leased' somebody else holds it, or a later job has its id
--          | 'free' nobody holds it
-- REPEAT   the number of the call within the attempt tells that it was made before.
-- USES  Lease

local CRON_HAS_ENDED = '1'  -- the id of a cron job stays taken for a minute

-- Whether a note may be written: nil if it may, else the verdict. `known` is when the job was enqueued that the record
-- is of.
local function refusal(lease, token, has_ended, known, enqueued)
  if lease and not Lease.has_token(lease, token) and not (has_ended and lease == CRON_HAS_ENDED) then
    return 'leased'
  elseif not lease and not has_ended then
    return 'free'
  elseif known and tonumber(known) > tonumber(enqueued) then
    return 'leased'
  end
end

return function(c, argv)
  local k, ttl_ms, most_lines = c.k, argv[2], tonumber(argv[3])
  local verdicts, at = {}, 4
  while at <= #argv do
    local id, token, number, enqueued = argv[at], argv[at + 1], argv[at + 2], argv[at + 3]
    local has_ended, progress, lines = argv[at + 4] == '1', argv[at + 5], tonumber(argv[at + 6])
    local first_line = at + 7
    at = first_line + lines
    local lease = call('GET', k.LEASE .. id)
    local record, log = k.PROGRESS .. id, k.JOB_LOG .. id
    local writer = token .. '#' .. number
    local known, last_writer = unpack(call('HMGET', record, 'enqueued', 'writer'))
    local refused = refusal(lease, token, has_ended, known, enqueued)
    if not refused and last_writer ~= writer then
      if known and known ~= enqueued then
        call('DEL', record, log)
      end
      call('HSET', record, 'enqueued', enqueued, 'writer', writer)
      if progress ~= '' then
        call('HSET', record, 'progress', progress)
      end
      if lines > 0 then
        for i = first_line, at - 1 do
          call('RPUSH', log, argv[i])
        end
        call('LTRIM', log, -most_lines, -1)
        call('PEXPIRE', log, ttl_ms)
      end
      call('PEXPIRE', record, ttl_ms)
    end
    verdicts[#verdicts + 1] = refused or 'written'
  end
  return verdicts
end
