-- Taking back what a worker was sent with a wake-up that it has not heeded (_deliver).

-- Put the job in its queue again as if it had stayed there. `given` is what OFFER says of it; returns the queue, or nothing
-- if the worker holds the job no more.
local function take_back(worker, given)
  local number, length, rest = string.match(given, '^(%d+) (%d+) (.*)$')
  local queue, id = string.sub(rest, 1, length), string.sub(rest, length + 1)
  local token = worker .. '.' .. number .. '|'
  local lease = call('GET', LEASE .. id)
  if lease and string.sub(lease, 1, #token) == token then
    call('DEL', LEASE .. id, ATTEMPTS .. id)
    call('ZADD', queue, 'XX', string.match(lease, '|(%-?%d+)|%d+$'), id)
    return queue
  end
end

-- Whether OFFER says that a job was sent, and not with the number of the delivery that the worker took in last.
local function is_unheeded(offer, taken)
  return string.find(offer, ' ', 1, true) and string.find(offer, taken .. ' ', 1, true) ~= 1
end
