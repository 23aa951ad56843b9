-- A module of functions that only some calls need. A script makes its functions anew in every call, and most calls never
-- come to most of them: so these are made when the first of them is wanted. `used` says whether it was.
local function module(make)
  return setmetatable({ used = false }, { __index = function(self, name)
    setmetatable(self, nil)
    for key, value in pairs(make()) do
      self[key] = value
    end
    self.used = true
    return self[name]
  end })
end
