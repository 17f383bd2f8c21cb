-- What devices signed on a master key goes with them, however it came.
INSERT OR IGNORE INTO key_signatures (user, key, signer, signing_id, signature, position)
SELECT signed.user, signed.id, signed.user, made.key, made.value, 0
FROM cross_signing_keys AS signed, json_each(signed.key, '$.signatures') AS by_user,
     json_each(by_user.value) AS made, devices, device_keys
WHERE signed.usage = 'master' AND devices.user = signed.user AND made.key = 'ed25519:' || devices.id
  AND device_keys.device = devices.number;
UPDATE cross_signing_keys SET key = json_remove(key, '$.signatures') WHERE usage = 'master';
