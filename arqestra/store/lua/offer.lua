-- A worker that is registered as waiting has ended its last job: it offers to be sent the next one (_deliver).
--
-- KEYS  1: a queue of the worker (for routing)
-- ARGV  1: time in ms or ''   2: worker id   3: number of the offer, as of a claim   4: lease in ms
--       5: ms that the record outlives the lease   6: TTL of the offer in ms
-- RETURNS  1
--
-- Repeating the call is harmless while the lease of a job that was sent lasts: an offer that was used stays used.

call('SET', OFFER .. ARGV[2], ARGV[3] .. '|' .. ARGV[4] .. '|' .. ARGV[5], 'NX', 'PX', ARGV[6])
return 1
