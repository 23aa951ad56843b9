-- A module of functions that only some calls need. A single script makes its functions anew in every call, and most
-- calls never come to most of them: so these are made when the first of them is wanted. The library makes all of them
-- once.
local function module(make)
  return setmetatable({}, { __index = function(self, name)
    setmetatable(self, nil)
    for key, value in pairs(make()) do
      self[key] = value
    end
    return self[name]
  end })
end
