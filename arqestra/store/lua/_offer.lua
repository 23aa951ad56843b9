-- Offers of workers (docs/protocols.md, "Deliveries and offers"). If a job was sent on the offer and did not start when
-- the offer ends, it goes back to its queue (_delivery).
-- USES  Lease

-- Put the job in its queue again as if it had stayed there. `given` is the value of OFFER. Returns the queue, or
-- nothing if the worker holds the job no more.
local function put_back(c, worker, given)
  local k = c.k
  local number, length, rest = string.match(given, '^(%d+) (%d+) (.*)$')
  local queue, id = string.sub(rest, 1, length), string.sub(rest, length + 1)
  local lease = call('GET', k.LEASE .. id)
  if Lease.has_token(lease, worker .. '.' .. number) then
    local _, due = Lease.fields_of(lease)
    call('DEL', k.LEASE .. id, k.ATTEMPTS .. id)
    call('ZADD', k.QUEUE .. queue, 'XX', due, id)
    return queue
  end
end

-- The offer of a worker ends, unless it is newer than the claim numbered `number`. `last_used_offer` is the number of
-- the last offer on which the worker took in a job: a job that was sent on another offer did not reach it. Returns
-- whether there is no offer any more, and the queue to which a job went back.
local function withdraw_offer(c, worker, number, last_used_offer)
  local offer = call('GET', c.k.OFFER .. worker)
  if not offer then
    return true
  end
  local its_number = string.match(offer, '^%d+')
  if tonumber(its_number) > tonumber(number) then
    return false
  end
  call('DEL', c.k.OFFER .. worker)
  return true, its_number ~= last_used_offer and string.find(offer, ' ', 1, true) and put_back(c, worker, offer)
end

-- A worker that is registered as waiting has ended its last job: it offers to be sent the next one.
--
-- ARGV  from `at` on: worker id, number of the offer, as of a claim, lease in ms, ms that the record outlives the
--       lease, TTL of the offer in ms
--
-- Repeating the call is harmless while the lease of a job that was sent lasts: an offer that was used stays used.
local function make_offer(c, argv, at)
  local value = argv[at + 1] .. '|' .. argv[at + 2] .. '|' .. argv[at + 3]
  call('SET', c.k.OFFER .. argv[at], value, 'NX', 'PX', argv[at + 4])
end

return { withdraw_offer = withdraw_offer, make_offer = make_offer }
