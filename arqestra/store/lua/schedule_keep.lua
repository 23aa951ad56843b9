-- A process says which schedules it defines in code.
--
-- KEYS  1: home
-- ARGV  1: time in ms or ''   2: ms since the process started   3: when it started as it was told before, or ''
--       then for each schedule: name, digest
-- RETURNS  { when it started, and one character for each: '=' it is defined so | '?' its definition is wanted
--          | '-' another definition stays }
--
-- The earlier time of start counts: where the clock is put forward, a process is not younger for it than what was changed
-- at run time since it started.

-- @include _clock
-- @include _schedule

local home, now = KEYS[1], clock(ARGV[1])
local gen = math.min(now - tonumber(ARGV[2]), tonumber(ARGV[3]) or math.huge)
local verdicts = {}
for i = 4, #ARGV, 2 do
  local name, digest = ARGV[i], ARGV[i + 1]
  local verdict = standing(home, name, digest, gen, now)
  if verdict == 'same' then
    local key = SCHEDULE .. schedule_key(home, name)
    local seen = tonumber(call('ZSCORE', SEEN .. home, name) or 0)
    if seen < now - STALE_MS and call('HEXISTS', key, 'paused') == 0 then
      call('ZADD', SCHEDULES .. home, 0, name)
    end
    if gen > tonumber(call('HGET', key, 'gen')) then
      call('HSET', key, 'gen', gen)
    end
    call('ZADD', SEEN .. home, now, name)
  end
  if verdict == 'stay' and call('HEXISTS', SCHEDULE .. schedule_key(home, name), 'removed') == 1 then
    call('ZADD', SEEN .. home, now, name)  -- the removal is remembered as long as code has it
  end
  verdicts[#verdicts + 1] = verdict == 'same' and '=' or verdict == 'take' and '?' or '-'
end
sweep(home, now)
return { gen, table.concat(verdicts) }
