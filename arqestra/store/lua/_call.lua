-- The state of a call: `c` in all functions. Both the library and the single scripts begin with this.
--
--   c.k           the names of keys and channels: c.k.JOB .. id; all begin with the prefix of the namespace
--   c.now         ms, by the one clock that counts, that of Redis; a test gives a time of its own
--   c.due_queues  queues in which jobs became due: whoever fills this wakes workers for them at the end (Wake.wake_all)
--
-- Modules keep what they know within one call in further fields: c.special, c.first, c.plain, c.nobody_waits
-- (_special), c.flows, c.storing.
--
-- The tables that have one letter:
--
--   c  this call
--   k  c.k
--   t  in claims: the arguments, and the jobs that the claim takes (_claim)
--   q  in claims: one of its queues (_claim)
--   f  in finishes: the outcomes by job, and what is to be written for all of them at the end (_finish, _job_ends); in
--      schedule_fire: what one call of it knows

-- Names by routing key: the same for every call of a namespace. A server has few namespaces; the bound is for mistakes.
local MOST_NAMESPACES = 1000
local known_names, namespaces = {}, 0

-- The routing key is the only key that a call declares: the deployment record of its namespace.
local function names_of(routing_key)
  local names = known_names[routing_key]
  if not names then
    if namespaces >= MOST_NAMESPACES then
      known_names, namespaces = {}, 0
    end
    local prefix = string.sub(routing_key, 1, -#DEPLOYMENT - 1)
    names = {}
    for name, plain in pairs(PLAIN_NAMES) do
      names[name] = prefix .. plain
    end
    known_names[routing_key] = names
    namespaces = namespaces + 1
  end
  return names
end

local function state_of(call, routing_key, given_time)
  local now
  if given_time ~= '' then
    now = tonumber(given_time)
  else
    local time = call('TIME')
    now = time[1] * 1000 + math.floor(time[2] / 1000)
  end
  -- With room for what nearly every call adds.
  return {
    k = names_of(routing_key), now = now, due_queues = {},
    special = false, first = false, plain = false, nobody_waits = false,
  }
end
