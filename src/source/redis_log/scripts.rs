//! What is done at the server in one step: nobody sees a part of it, and nobody comes in between.
//!
//! Keys, all in one hash slot: 1 the log (a stream), 2 what is known of it (a hash), 3 the lease. A client's words never
//! stand in a script, only in its arguments.

/// What is too long for the connections that are told of it is named alone, and read. Of the hash: `newest` is the id of the newest change, `newest_at` its entry, `at` the newest entry, `bytes` the size of all entries,
/// `confirmed` the server's time in milliseconds when the source last confirmed what there is.
const COMMON: &str = r"
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function keep(milliseconds)
  for key = 1, 2 do
    if milliseconds == '0' then redis.call('PERSIST', KEYS[key]) else redis.call('PEXPIRE', KEYS[key], milliseconds) end
  end
end
local function add(base, newest, past, confirmed, entries, bytes, lasts, topic)
  local at = redis.call('XADD', KEYS[1], '*', 'base', base, 'past', past)
  if newest ~= redis.call('HGET', KEYS[2], 'newest') then
    redis.call('HSET', KEYS[2], 'newest', newest, 'newest_at', at)
  end
  redis.call('HSET', KEYS[2], 'at', at)
  if confirmed ~= '' then redis.call('HSET', KEYS[2], 'confirmed', now() - confirmed) end
  local size = redis.call('HINCRBY', KEYS[2], 'bytes', #past)
  local newest_at = redis.call('HGET', KEYS[2], 'newest_at')
  while size > tonumber(bytes) or redis.call('XLEN', KEYS[1]) > tonumber(entries) do
    local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 2)
    local oldest = first[1]
    if oldest and oldest[1] == newest_at then oldest = first[2] end
    if not oldest or oldest[1] == newest_at or oldest[1] == at then break end
    redis.call('XDEL', KEYS[1], oldest[1])
    size = redis.call('HINCRBY', KEYS[2], 'bytes', -#oldest[2][4])
  end
  keep(lasts)
  local news = at .. ' ' .. base .. ' ' .. past
  if #news > 1000000 then news = at end
  redis.pcall('PUBLISH', topic, news)
  return at
end
";

/// token, known newest, base, newest, past, age of the confirmation, most entries, most bytes, milliseconds to keep, topic →
/// the entry's position, or why not.
const APPEND: &str = r"
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 'lease' end
if (redis.call('HGET', KEYS[2], 'newest') or '') ~= ARGV[2] then return 'moved' end
return add(ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10])
";

/// epoch, past, most entries, most bytes, milliseconds to keep, topic → the change's id.
const PUBLISH: &str = r"
local base = redis.call('HGET', KEYS[2], 'newest') or (ARGV[1] .. '-0')
local seq = string.match(base, '%-(%d+)$')
local newest = ARGV[1] .. '-' .. string.format('%.0f', seq + 1)
add(base, newest, ARGV[2], '0', ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return newest
";

/// base, newest, past, most entries, most bytes, milliseconds to keep, topic → 1, or 0 when there is something already.
const FOUND: &str = r"
if redis.call('HGET', KEYS[2], 'newest') then return 0 end
add(ARGV[1], ARGV[2], ARGV[3], '0', ARGV[4], ARGV[5], ARGV[6], ARGV[7])
return 1
";

/// token, milliseconds of the lease → whether it is the token's now, milliseconds until it may be free, newest, newest entry,
/// age of the confirmation.
const CLAIM: &str = r"
local won = redis.call('GET', KEYS[3]) == ARGV[1] or redis.call('SET', KEYS[3], ARGV[1], 'NX', 'PX', ARGV[2])
if won then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
local known = redis.call('HMGET', KEYS[2], 'newest', 'at', 'confirmed')
local age = known[3] and string.format('%.0f', now() - known[3]) or ''
return { won and 1 or 0, redis.call('PTTL', KEYS[3]), known[1] or '', known[2] or '', age }
";

/// token, milliseconds of the lease, age of the confirmation, milliseconds to keep, known newest → 1, or 0 when the lease is another's
/// or the log is not as it is known.
const RENEW: &str = r"
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
if (redis.call('HGET', KEYS[2], 'newest') or '') ~= ARGV[5] then return 0 end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
keep(ARGV[4])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[2], 'confirmed', now() - ARGV[3]) end
return 1
";

/// token, topic → 1, or 0 when it was another's.
const RELEASE: &str = r"
if redis.call('GET', KEYS[3]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[3])
redis.call('PUBLISH', ARGV[2], '')
return 1
";

/// A step at the server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Script {
    Append,
    Publish,
    Found,
    Claim,
    Renew,
    Release,
}

impl Script {
    /// The command that runs it; its arguments are to be added.
    pub(super) fn command(self, keys: &[String; 3]) -> redis::Cmd {
        let body = match self {
            Self::Append => APPEND,
            Self::Publish => PUBLISH,
            Self::Found => FOUND,
            Self::Claim => CLAIM,
            Self::Renew => RENEW,
            Self::Release => RELEASE,
        };
        // Whole each time: a server that was restarted or failed over knows no script, and the text costs less than a second way.
        let mut command = redis::cmd("EVAL");
        command.arg([COMMON, body].concat()).arg(3).arg(keys);
        command
    }
}
