-- What is kept of jobs that fail: the errors of a job's attempts, and the dead set of a queue.

local DEAD_SET_LIMIT = 10000
local HISTORY_LIMIT = 20

-- Put a job into the dead set; written with the others of the call by `write_dead`.
-- dead: queue -> what goes into its dead set
local function bury(c, dead, id, queue, result)
  local buried = dead[queue]
  if not buried then
    buried = { scores = {}, results = {} }
    dead[queue] = buried
  end
  local scores, results, n = buried.scores, buried.results, #buried.scores
  scores[n + 1], scores[n + 2] = c.now, id
  results[n + 1], results[n + 2] = id, result
end

-- The dead set has the latest jobs, and none for longer than it keeps them.
local function write_dead(c, dead, keep_dead_ms)
  for queue, buried in pairs(dead) do
    local set, kept = c.k.DEAD .. queue, c.k.DEAD_RESULTS .. queue
    call('ZADD', set, unpack(buried.scores))
    call('HSET', kept, unpack(buried.results))
    local most_gone = 100 + #buried.scores / 2
    local gone = call('ZRANGEBYSCORE', set, '-inf', c.now - keep_dead_ms, 'LIMIT', 0, most_gone)
    local surplus = math.min(most_gone, call('ZCARD', set) - #gone - DEAD_SET_LIMIT)
    if surplus > 0 then
      gone = call('ZRANGE', set, 0, #gone + surplus - 1)
    end
    if #gone > 0 then
      call('ZREM', set, unpack(gone))
      call('HDEL', kept, unpack(gone))
    end
    call('PEXPIRE', set, keep_dead_ms)
    call('PEXPIRE', kept, keep_dead_ms)
  end
end

-- Add the entry of an attempt to its job's history; '+' and '' are none.
local function note(c, id, entry)
  if entry ~= '' and entry ~= '+' then
    if call('RPUSH', c.k.ERRORS .. id, entry) > HISTORY_LIMIT then
      call('LTRIM', c.k.ERRORS .. id, -HISTORY_LIMIT, -1)
    end
  end
end

-- The history of an ended job is kept as long as its result.
local function keep_history(c, id, ttl)
  if ttl == '0' then
    call('PERSIST', c.k.ERRORS .. id)
  elseif ttl == '-1' then
    call('DEL', c.k.ERRORS .. id)
  else
    call('PEXPIRE', c.k.ERRORS .. id, ttl)
  end
end

return { bury = bury, write_dead = write_dead, note = note, keep_history = keep_history }
