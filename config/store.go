package config

import (
	"context"
	"errors"
	"iter"
	"math"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Store reads and writes keys of any kind as bytes, for tools; a program that
// is configured uses a [Variable]. It is immutable and safe for concurrent use.
type Store struct {
	c    *clientv3.Client
	opts options
	keys space
	err  error // what is wrong with the options
}

// NewStore returns the store of a namespace. It does no I/O. Of the options,
// WithNamespace, WithAuthor and WithLogger matter; values of them outside their
// limits make every call return core.ErrInvalid.
func NewStore(c *clientv3.Client, opts ...Option) *Store {
	o, err := newOptions(opts)
	return &Store{c: c, opts: o, keys: newSpace(o.namespace), err: err}
}

func (s *Store) check(key string) error {
	if s.err != nil {
		return s.err
	}
	if err := keyspace.CheckName("key", key); err != nil {
		return invalid("%w", err)
	}
	return nil
}

// Get reads the present version, linearizably. It may be a tombstone. If the key
// was deleted or overwritten by hand it is the newest version of the history,
// with [Version.Problem]. The error is [ErrNotFound] if there is neither.
func (s *Store) Get(ctx context.Context, key string) (*Version, error) {
	if err := s.check(key); err != nil {
		return nil, err
	}
	resp, err := s.c.Get(ctx, s.keys.value(key))
	if err != nil {
		return nil, named(key, err)
	}
	v, err := s.present(ctx, key, first(resp.Kvs))
	return v, named(key, err)
}

// At reads the version that was in force at a revision, as far as the history
// goes back. It may be a tombstone. The error is [ErrNotFound] if there was none,
// the history no longer has it, or etcd has not reached the revision.
func (s *Store) At(ctx context.Context, key string, revision int64) (*Version, error) {
	if err := s.check(key); err != nil {
		return nil, err
	}
	if revision < 1 {
		return nil, named(key, invalid("revision: %d is less than 1", revision))
	}
	h := s.keys.history(key)
	resp, err := s.c.Get(ctx, h, clientv3.WithRange(keyspace.End(h)), clientv3.WithMaxModRev(revision),
		clientv3.WithSort(clientv3.SortByModRevision, clientv3.SortDescend), clientv3.WithLimit(1))
	switch {
	case err != nil:
		return nil, named(key, err)
	case len(resp.Kvs) == 0 || revision > resp.Header.Revision:
		return nil, named(key, &problem{is: ErrNotFound, why: noRevisionError(revision)})
	}
	v, err := versionOf(key, resp.Kvs[0])
	return v, named(key, err)
}

// present returns the version that counts while kv stands under the key, nil for
// nothing.
func (s *Store) present(ctx context.Context, key string, kv *mvccpb.KeyValue) (*Version, error) {
	why := ErrMissing
	if kv != nil {
		v, err := versionOf(key, kv)
		if err == nil {
			return v, nil
		}
		why = err
	}
	v, err := s.newest(ctx, key)
	switch {
	case err != nil:
		return nil, err
	case v != nil && v.Deleted && kv == nil:
		return v, nil
	case v != nil && !v.Deleted:
		v.Problem = why
		return v, nil
	case kv == nil:
		return nil, ErrNotFound
	default:
		return nil, why
	}
}

// newest returns the newest version of the history, nil if there is none.
func (s *Store) newest(ctx context.Context, key string) (*Version, error) {
	for v, err := range s.History(ctx, key, 0) {
		return v, errors.Unwrap(err) // it is named by whoever asks
	}
	return nil, nil
}

// List reads the present versions of the keys whose name begins with prefix,
// ordered by the spelling of their names, from the first one that follows the
// name after; an empty after is the beginning. A tombstone is one of them; one
// that is damaged has a Problem and no value. The sequence is read in pages, each
// of which is one moment, and ends after an error.
func (s *Store) List(ctx context.Context, prefix, after string) iter.Seq2[*Version, error] {
	return func(yield func(*Version, error) bool) {
		if err := s.checkList(prefix, after); err != nil {
			yield(nil, err)
			return
		}
		from := ""
		if after != "" {
			from = keyspace.End(keyspace.Prefix(s.keys.namespace, recipe, after))
		}
		for _, r := range s.keys.present(prefix) {
			r.from = max(r.from, from)
			if r.from < r.end && !s.listSpan(ctx, r, yield) {
				return
			}
		}
	}
}

func (s *Store) checkList(prefix, after string) error {
	if s.err != nil {
		return s.err
	}
	if err := keyspace.CheckText("prefix", prefix, keyspace.MaxName); err != nil {
		return invalid("%w", err)
	}
	if after == "" {
		return nil
	}
	if err := keyspace.CheckName("after", after); err != nil {
		return invalid("%w", err)
	}
	return nil
}

// listPage is how many keys one read has: with the largest values, half of what
// gRPC clients take in a message by default is soon reached.
const listPage = 32

func (s *Store) listSpan(ctx context.Context, r span, yield func(*Version, error) bool) bool {
	for {
		resp, err := s.c.Do(ctx, r.op(listPage))
		if err != nil {
			yield(nil, err)
			return false
		}
		kvs := resp.Get().Kvs
		for _, kv := range kvs {
			key, ok := nameOf(string(kv.Key))
			if !ok {
				continue
			}
			v, err := versionOf(key, kv)
			if err != nil {
				v = &Version{Key: key, Revision: kv.ModRevision, Problem: err}
			}
			if !yield(v, nil) {
				return false
			}
		}
		if !resp.Get().More {
			return true
		}
		r.from = string(kvs[len(kvs)-1].Key) + "\x00"
	}
}

// historyPage is how many versions one read has at most: 4 MiB of the largest.
const historyPage = 8

// History reads the versions that are kept of a key, newest first: the last 50,
// tombstones among them; of those only the ones whose number is smaller than
// before, unless that is 0. Versions that somebody damaged are left out. The
// sequence is empty if there are none, and ends after an error.
func (s *Store) History(ctx context.Context, key string, before int64) iter.Seq2[*Version, error] {
	return func(yield func(*Version, error) bool) {
		if err := s.check(key); err != nil {
			yield(nil, named(key, err))
			return
		}
		end := keyspace.End(s.keys.history(key))
		if before > 0 {
			end = s.keys.version(key, before)
		}
		for end != "" {
			resp, err := s.c.Get(ctx, s.keys.history(key), clientv3.WithRange(end),
				clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend), clientv3.WithLimit(historyPage))
			if err != nil {
				yield(nil, named(key, err))
				return
			}
			for _, kv := range resp.Kvs {
				v, err := versionOf(key, kv)
				if err == nil && !yield(v, nil) {
					return
				}
			}
			end = ""
			if resp.More {
				end = string(resp.Kvs[len(resp.Kvs)-1].Key)
			}
		}
	}
}

// lastNumber returns the number of the newest version that the history has, 0 if
// it has none.
func (s *Store) lastNumber(ctx context.Context, key string) (int64, error) {
	h := s.keys.history(key)
	resp, err := s.c.Get(ctx, h, clientv3.WithRange(keyspace.End(h)), clientv3.WithKeysOnly(),
		clientv3.WithSort(clientv3.SortByKey, clientv3.SortDescend))
	if err != nil {
		return 0, err
	}
	for _, kv := range resp.Kvs {
		// A key that somebody made up near the end of numbers must not stop all
		// publications.
		if n, ok := numberOf(string(kv.Key)); ok && n < math.MaxInt64/2 {
			return n, nil
		}
	}
	return 0, nil
}

func first(kvs []*mvccpb.KeyValue) *mvccpb.KeyValue {
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}
