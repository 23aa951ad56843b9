-- Tell those who listen what happened.
--
-- KEYS  1: the channel
-- ARGV  1: time in ms or ''   2: the message
-- RETURNS  how many listen

return call('PUBLISH', KEYS[1], ARGV[2])
