-- Lists that are filled at once: made with room for all their values, because a list that grows is copied at each
-- doubling.

local NOTHING = {}

-- A list with room for so many values, which the caller sets: nobody asks for its length before.
local function list(size)
  return { unpack(NOTHING, 1, size) }
end

return { list = list }
