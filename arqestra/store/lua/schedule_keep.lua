-- A process says which schedules it defines in code.
--
-- ARGV  1: time in ms or ''
--       2: ms since the process started
--       3: when it started as it was told before, or ''
--       4: REV as it was told before, or ''. If it is the same, all of these are defined so still, and nothing is
--          compared
--       then for each schedule: name, digest
-- RETURNS  { when it started, REV, and one character for each: '=' it is defined so | '?' its definition is wanted
--          | '-' others define it differently | 'a' what was changed at run time stays }
--
-- The earlier time of start counts: where the clock is put forward, a process is not younger for it than what was
-- changed at run time since it started.
-- USES  Schedule

local LETTERS = { same = '=', take = '?', stay = 'a', others = '-' }

-- How one schedule stands, as a letter; notes that the process defines it. `gen` is when the process started.
local function keep(c, name, digest, gen)
  local verdict = Schedule.standing(c, name, digest, gen)
  if verdict == 'same' then
    local home, paused, stored_gen = unpack(call('HMGET', c.k.SCHEDULE .. name, 'home', 'paused', 'gen'))
    local seen = tonumber(call('ZSCORE', c.k.SEEN, name) or 0)
    if seen < c.now - TAKE_OVER_MS and not paused then
      call('ZADD', c.k.SCHEDULES .. home, 0, name)
      call('PUBLISH', c.k.SCHEDULE_NEWS, '')
    end
    if gen > tonumber(stored_gen) then
      call('HSET', c.k.SCHEDULE .. name, 'gen', gen)
    end
    call('ZADD', c.k.SEEN, c.now, name)
  elseif verdict == 'stay' and call('HEXISTS', c.k.SCHEDULE .. name, 'removed') == 1 then
    call('ZADD', c.k.SEEN, c.now, name)  -- the removal is remembered as long as code has it
  end
  return LETTERS[verdict]
end

return function(c, argv)
  local gen = math.min(c.now - tonumber(argv[2]), tonumber(argv[3]) or math.huge)
  local rev = call('GET', c.k.REV) or '0'
  local verdicts = {}
  for i = 5, #argv, 2 do
    if argv[4] == rev then
      call('ZADD', c.k.SEEN, c.now, argv[i])
    else
      verdicts[#verdicts + 1] = keep(c, argv[i], argv[i + 1], gen)
    end
  end
  Schedule.sweep(c)
  return { gen, rev, argv[4] == rev and string.rep('=', (#argv - 4) / 2) or table.concat(verdicts) }
end
