-- Tell those who listen what happened.
--
-- ARGV  1: time in ms or ''
--       2: the channel
--       3: the message
-- RETURNS  how many listen

return function(c, argv)
  return call('PUBLISH', argv[2], argv[3])
end
