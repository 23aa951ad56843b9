-- A process says which schedules it defines in code.
--
-- KEYS  1: queue of one of them (for routing)
-- ARGV  1: time in ms or ''   2: ms since the process started   3: when it started as it was told before, or ''
--       4: REV as it was told before: if it is the same, all of these are defined so still and nothing is compared; or ''
--       then for each schedule: name, digest
-- RETURNS  { when it started, REV, and one character for each: '=' it is defined so | '?' its definition is wanted
--          | '-' others define it differently | 'a' what was changed at run time stays }
--
-- The earlier time of start counts: where the clock is put forward, a process is not younger for it than what was changed
-- at run time since it started.

-- @include _clock
-- @include _schedule

local now = clock(ARGV[1])
local gen = math.min(now - tonumber(ARGV[2]), tonumber(ARGV[3]) or math.huge)
local rev = call('GET', REV) or '0'
local LETTERS = { same = '=', take = '?', stay = 'a', others = '-' }
local verdicts = {}

local function keep(name, digest)
  local verdict = standing(name, digest, gen, now)
  if verdict == 'same' then
    local home, paused, stored_gen = unpack(call('HMGET', SCHEDULE .. name, 'home', 'paused', 'gen'))
    local seen = tonumber(call('ZSCORE', SEEN, name) or 0)
    if seen < now - TAKE_OVER_MS and not paused then
      call('ZADD', SCHEDULES .. home, 0, name)
      call('PUBLISH', SCHEDULE_NEWS, '')
    end
    if gen > tonumber(stored_gen) then
      call('HSET', SCHEDULE .. name, 'gen', gen)
    end
    call('ZADD', SEEN, now, name)
  elseif verdict == 'stay' and call('HEXISTS', SCHEDULE .. name, 'removed') == 1 then
    call('ZADD', SEEN, now, name)  -- the removal is remembered as long as code has it
  end
  return LETTERS[verdict]
end

for i = 5, #ARGV, 2 do
  if ARGV[4] == rev then
    call('ZADD', SEEN, now, ARGV[i])
  else
    verdicts[#verdicts + 1] = keep(ARGV[i], ARGV[i + 1])
  end
end
sweep(now)
return { gen, rev, ARGV[4] == rev and string.rep('=', (#ARGV - 4) / 2) or table.concat(verdicts) }
