-- The end of an offer. If a job was sent on the offer and did not start, it goes back to its queue (_deliver).

-- Put the job in its queue again as if it had stayed there. `given` is the value of OFFER. Returns the queue, or nothing
-- if the worker holds the job no more.
local function take_back(worker, given)
  local number, length, rest = string.match(given, '^(%d+) (%d+) (.*)$')
  local queue, id = string.sub(rest, 1, length), string.sub(rest, length + 1)
  -- `has_token` and `fields_of` of _lease, written out: each claim would create the functions of that file.
  local token = worker .. '.' .. number .. '|'
  local lease = call('GET', LEASE .. id)
  if lease and string.sub(lease, 1, #token) == token then
    call('DEL', LEASE .. id, ATTEMPTS .. id)
    call('ZADD', QUEUE .. queue, 'XX', string.match(lease, '|(%-?%d+)|%d+$'), id)
    return queue
  end
end

-- The offer of a worker ends, unless it is newer than the claim numbered `number`. `taken` is the number of
-- the last offer on which the worker took in a job: a job that was sent on another offer did not reach it. Returns whether
-- there is no offer any more, and the queue to which a job went back.
local function withdraw_offer(worker, number, taken)
  local offer = call('GET', OFFER .. worker)
  if not offer then
    return true
  end
  local its_number = string.match(offer, '^%d+')
  if tonumber(its_number) > tonumber(number) then
    return false
  end
  call('DEL', OFFER .. worker)
  return true, its_number ~= taken and string.find(offer, ' ', 1, true) and take_back(worker, offer)
end
