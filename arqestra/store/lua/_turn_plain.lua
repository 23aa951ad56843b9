-- A turn of a busy worker on a plain queue: its outcomes are alike (_finish_alike), nobody waits, no offer stands, and
-- there are as many due jobs as it has free slots, all of them plain (_claim_plain). So it is with nearly every turn
-- under load. What both parts need is read at once, before anything is written:
--
--   EXISTS   what is special
--   ZRANGE   the first jobs
--   MGET     the leases of those that have ended, what is known of those that are due
--   PSETEX, ZREM, DEL, PUBLISH   the ends
--   PSETEX, ZADD, MSET           the leases
-- USES  Special, FinishAlike, ClaimPlain, Sized

local CLAIMS_PER_COUNT = 16  -- as in _claim

-- Whether the arguments of a claim, from `at` on, are those of such a turn: a first call, no offer, one queue, no ids.
local function is_plain_claim(argv, at)
  local slots = argv[at + 2]
  return argv[at + 9] ~= '1' and argv[at + 12] ~= '1' and argv[at + 14] == '1' and not argv[at + 18]
    and argv[at + 16] == slots and argv[at + 17] == slots and slots ~= '0' and tonumber(slots) <= ClaimPlain.MOST
end

-- Lease the jobs, and say so.
local function claimed(c, argv, at, due, n, names, known, count)
  local queue, number = argv[at + 15], argv[at + 1]
  local reply = Sized.list(5 + 5 * n)
  reply[1], reply[2], reply[3], reply[4], reply[5] = -1, -1, '0', c.now, ''
  local token = argv[at] .. '.' .. number
  ClaimPlain.lease(c, queue, token, argv[at + 3], argv[at + 4], due, n, names, known, count, reply)
  if number % CLAIMS_PER_COUNT == 0 then
    reply[1] = call('ZCARD', c.k.QUEUE .. queue)
  end
  return reply
end

-- The whole turn, where argv has outcomes from 4 to `last` and then a claim. Returns the verdicts, whether the claim
-- went well, and its reply; nil, and nothing is done, if the turn is another one.
local function turn(c, argv, last)
  local at = last + 2
  if not is_plain_claim(argv, at) then
    return nil
  end
  local queue, want = argv[at + 15], tonumber(argv[at + 2])
  local count = last > 3 and tonumber(argv[10]) or 0
  if count > 0 and (argv[4] ~= queue or not FinishAlike.is_one_group(argv, 4, last)) then
    return nil
  end
  if not Special.is_plain(c, queue) or not c.nobody_waits then
    return nil
  end
  local due, n = ClaimPlain.first_due(c, queue, want)
  if n < want then
    return nil
  end
  local names = Sized.list(count + 3 * n)
  if count > 0 then
    FinishAlike.put_names(c, argv, 4, last, names)
  end
  ClaimPlain.put_names(c, due, n, names, count)
  local known = call('MGET', unpack(names))
  if not (FinishAlike.are_held(argv[5], known, count) and ClaimPlain.are_free(due, n, known, count)) then
    return nil
  end
  if count > 0 then
    FinishAlike.write(c, argv, 4, last, names)
  end
  return string.rep('1', count), pcall(claimed, c, argv, at, due, n, names, known, count)
end

return { turn = turn }
