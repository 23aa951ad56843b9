-- Registers the functions of the library. `redis.call` is not there while the library loads, so each call sets `call`;
-- it is always the same function.

local function register(name, flags, handle)
  redis.register_function({
    function_name = LIBRARY .. '_' .. name,
    flags = flags,
    callback = function(keys, argv)
      call = redis.call
      return handle(state_of(call, keys[1], argv[1]), argv)
    end,
  })
end
