-- One round trip of a worker: write the outcomes of its jobs that have ended, then claim others (docs/protocols.md,
-- "Leases and fencing"). What ended makes room for what is claimed.
--
-- ARGV  1: time in ms or ''
--       2: ms to keep a job in the dead set
--       3: number of the arguments about outcomes
--       then these, see _finish
--       then 'claim' and the arguments of a claim, see _claim; 'offer' and those of an offer, see _offer; or nothing
-- RETURNS  { verdicts, claim }
--          verdicts: one character for each outcome, see _finish
--          claim: see _claim; an error if Redis refused it: the outcomes are written all the same; '' if there was none
-- EVENTS   publishes the end of each job; wakes workers for jobs that are due; tells workers of aborts
-- REPEAT   an outcome that is written has no lease any more (_finish); a claim of the same number gives the same jobs
--          (_claim)
-- USES     Finish, Claim, Offer, TurnPlain

local function error_of(reply)
  return type(reply) == 'table' and reply or { err = tostring(reply) }
end

return function(c, argv)
  local last = 3 + argv[3]
  local what = argv[last + 1]
  if what == 'claim' then
    local verdicts, ok, reply = TurnPlain.turn(c, argv, last)
    if verdicts then
      return { verdicts, ok and reply or error_of(reply) }
    end
  end
  local verdicts = last > 3 and Finish.finish(c, argv, 4, last, tonumber(argv[2])) or ''
  if what == 'claim' then
    local ok, reply = pcall(Claim.claim, c, argv, last + 2)
    return { verdicts, ok and reply or error_of(reply) }
  elseif what == 'offer' then
    Offer.make_offer(c, argv, last + 2)
  end
  return { verdicts, '' }
end
