-- What is special about a deployment and its queues: nearly always nothing. A call reads it once, by one command.
--
-- c.special   aborts: jobs are to be aborted
--             flows: there are flows, running ones or such that have ended
--             continuations: flows have unfinished work
--             queues: by name: what is special about a queue
-- c.first     the first queue that the call works on
-- c.plain     nothing of this is there, and nothing special about the first queue
-- c.nobody_waits  no worker waited for the first queue
-- A queue     limits: jobs with limits, locks or a position in a flow or schedule; deferred jobs with a priority; or a
--             queue is paused
--             paused: this one is

local NOTHING = { limits = false, paused = false }

-- The keys that say so, by namespace and queue: the same for each call. A server has few queues; the bound is for
-- mistakes.
local MOST_QUEUES = 1000
local known_keys, queues = {}, 0

local function keys_of(k, queue)
  local of_namespace = known_keys[k]
  local keys = of_namespace and of_namespace[queue]
  if not keys then
    if queues >= MOST_QUEUES then
      known_keys, queues = {}, 0
    end
    keys = {
      k.ABORTS, k.FLOWS, k.ENDED_FLOWS, k.CONTINUATIONS, k.PAUSED,
      k.SPECS .. queue, k.PROMOTE .. queue, k.RETRY_AT .. queue, k.WAITING .. queue,
    }
    known_keys[k] = known_keys[k] or {}
    known_keys[k][queue] = keys
    queues = queues + 1
  end
  return keys
end

-- Whether nothing at all is special, with the first queue that the call works on.
local function is_plain(c, queue)
  if c.first == queue then
    return c.plain
  end
  local count = call('EXISTS', unpack(keys_of(c.k, queue)))
  c.first, c.nobody_waits = queue, count == 0
  c.plain = count == 0 or (count == 1 and call('EXISTS', c.k.WAITING .. queue) == 1)
  return c.plain
end

local function read_queue(c, queue)
  local k = c.k
  if call('EXISTS', k.SPECS .. queue, k.PROMOTE .. queue, k.RETRY_AT .. queue, k.PAUSED) == 0 then
    return NOTHING
  end
  return { limits = true, paused = call('SISMEMBER', k.PAUSED, queue) == 1 }
end

-- What is special, with the first queue that the call works on.
local function of_call(c, queue)
  local special = c.special
  if special then
    return special
  end
  local k = c.k
  special = { aborts = false, flows = false, continuations = false, queues = {} }
  if is_plain(c, queue) then
    special.queues[queue] = NOTHING
  else
    special.aborts = call('EXISTS', k.ABORTS) == 1
    special.flows = call('EXISTS', k.FLOWS, k.ENDED_FLOWS) > 0
    special.continuations = call('EXISTS', k.CONTINUATIONS) == 1
  end
  c.special = special
  return special
end

local function of_queue(c, queue)
  local queues = of_call(c, queue).queues
  local known = queues[queue]
  if not known then
    known = read_queue(c, queue)
    queues[queue] = known
  end
  return known
end

-- The call has changed what may be special: it is read again when somebody asks.
local function forget(c)
  c.special, c.first = false, false
end

return { is_plain = is_plain, of_call = of_call, of_queue = of_queue, forget = forget }
