package config

import (
	"context"
	"encoding/json"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Schema reads the JSON Schema of a key, as a [Version] that has no number of its
// own. The error is [ErrNotFound] if the key has none.
//
// A schema is checked by hosts, when a value is published through them. A
// [Variable] and a Store write past it, and check with their own means.
func (s *Store) Schema(ctx context.Context, key string) (*Version, error) {
	if err := s.check(key); err != nil {
		return nil, err
	}
	resp, err := s.c.Get(ctx, s.keys.schema(key))
	if err != nil {
		return nil, named(key, err)
	}
	kv := first(resp.Kvs)
	if kv == nil {
		return nil, named(key, ErrNotFound)
	}
	v, err := versionOf(key, kv)
	return v, named(key, err)
}

// SetSchema gives a key a JSON Schema, which is not looked at here beyond being
// JSON; nil takes the schema away. It returns the revision. The last writer wins.
// Repeating it after an error is harmless.
func (s *Store) SetSchema(ctx context.Context, key string, schema []byte, opts ...PublishOption) (int64, error) {
	p, err := s.opts.publication(opts)
	if err != nil {
		return 0, err
	}
	if err := s.check(key); err != nil {
		return 0, err
	}
	op := clientv3.OpDelete(s.keys.schema(key))
	if schema != nil {
		if len(schema) > MaxValue {
			return 0, named(key, invalid("schema: has %d bytes, the limit is %d", len(schema), MaxValue))
		}
		if !json.Valid(schema) {
			return 0, named(key, invalid("schema: is not JSON"))
		}
		data, err := record{value: schema, header: header{Number: 1, Codec: "json", Author: p.author, Message: p.message,
			Time: time.Now().UTC().Truncate(time.Millisecond)}}.encode()
		if err != nil {
			return 0, named(key, err)
		}
		op = clientv3.OpPut(s.keys.schema(key), string(data))
	}
	resp, err := s.c.Do(ctx, op)
	if err != nil {
		return 0, named(key, err)
	}
	if schema == nil {
		return resp.Del().Header.Revision, nil
	}
	return resp.Put().Header.Revision, nil
}
