package config

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Change is what a release does to one key.
type Change struct {
	Key   string // the key
	Value []byte // 1 byte to 512 KiB; nil with Delete
	Codec string // what Value is; empty: bytes
	// Delete publishes a tombstone. It is [ErrNotFound] for a key that has no
	// value.
	Delete bool
	// Expect, if not nil, is the revision that the key must have; 0 is no value,
	// which a key that was never set and a tombstone are.
	Expect *int64
	// Of, if not 0, is the revision whose value this is, for the history.
	Of int64
	// Schema, if not nil, is the revision of the schema that Value has passed,
	// which must still be that of the key; 0 is none. See [ErrSchemaChanged].
	Schema *int64

	promotes *Rollout // ends with the publication
}

// attempt bounds one request: one that is lost in the network is sent again.
const attempt = 5 * time.Second

// Publish releases new versions of up to 32 keys, all of them or none, in one
// transaction, and returns the revision that they all have. It is safe to lose
// its reply: each version is published once, or not at all.
//
// The error is core.ErrInvalid, [ErrConflict] (as a [ConflictError]),
// [ErrSchemaChanged] or [ErrNotFound]: nothing was written; core.ErrUnknownOutcome
// if ctx ends before etcd has said; or etcd's.
func (s *Store) Publish(ctx context.Context, changes []Change, opts ...PublishOption) (int64, error) {
	if s.err != nil {
		return 0, s.err
	}
	p, err := s.opts.publication(opts)
	if err != nil {
		return 0, err
	}
	if err := s.checkChanges(changes); err != nil {
		return 0, err
	}
	r := &release{s: s, changes: changes, by: p, id: rand.Text(), pauses: backoff.NewExponentialBackOff()}
	r.pauses.InitialInterval, r.pauses.MaxInterval = 20*time.Millisecond, time.Second
	for {
		if err := r.read(ctx); err != nil {
			return 0, err
		}
		revision, err := r.send(ctx)
		if revision != 0 || err != nil {
			return revision, err
		}
	}
}

func (s *Store) checkChanges(changes []Change) error {
	if n := len(changes); n < 1 || n > MaxRelease {
		return invalid("changes: %d keys, the limits are 1 to %d", n, MaxRelease)
	}
	seen, total := make(map[string]bool), 0
	for _, c := range changes {
		if err := s.check(c.Key); err != nil {
			return named(c.Key, err)
		}
		if err := checkValue(c); err != nil {
			return named(c.Key, err)
		}
		if seen[c.Key] {
			return named(c.Key, invalid("key: is twice in one release"))
		}
		seen[c.Key], total = true, total+len(c.Value)
	}
	if total > MaxValue {
		return invalid("value: the values of the release have %d bytes, the limit is %d", total, MaxValue)
	}
	return nil
}

func checkValue(c Change) error {
	switch {
	case c.Delete && len(c.Value) > 0:
		return invalid("value: is given together with a deletion")
	case !c.Delete && len(c.Value) == 0:
		return invalid("value: is empty; delete the key in place of emptying it")
	case len(c.Value) > MaxValue:
		return invalid("value: has %d bytes, the limit is %d", len(c.Value), MaxValue)
	}
	if err := keyspace.CheckText("codec", c.Codec, 64); err != nil {
		return invalid("%w", err)
	}
	return nil
}

// A release is one publication under way.
type release struct {
	s       *Store
	changes []Change
	by      publication
	id      string
	pauses  *backoff.ExponentialBackOff

	found []found
	whole bool // read the histories too: somebody wrote there by hand
}

// found is what a key had when it was read.
type found struct {
	revision int64 // mod revision of what stands there; 0: nothing
	number   int64 // of the newest version
}

// read looks at the keys, at one revision, and compares what the caller expects.
func (r *release) read(ctx context.Context) error {
	var ops []clientv3.Op
	for _, c := range r.changes {
		ops = append(ops, clientv3.OpGet(r.s.keys.value(c.Key)), clientv3.OpGet(r.s.keys.schema(c.Key), clientv3.WithKeysOnly()))
	}
	if c := &r.changes[0]; c.promotes != nil {
		// The scope may have been changed since.
		p, err := r.s.current(ctx, c.Key, c.promotes.Candidate.Revision)
		if err != nil {
			return err
		}
		c.promotes = p
	}
	resp, err := r.s.c.Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return r.failed(ctx, err)
	}
	r.found = make([]found, len(r.changes))
	for i, c := range r.changes {
		kv := first(resp.Responses[2*i].GetResponseRange().GetKvs())
		schema := first(resp.Responses[2*i+1].GetResponseRange().GetKvs())
		if c.Schema != nil && *c.Schema != schema.GetModRevision() {
			return named(c.Key, ErrSchemaChanged)
		}
		if r.found[i], err = r.look(ctx, c, kv); err != nil {
			return err
		}
	}
	return nil
}

func (r *release) look(ctx context.Context, c Change, kv *mvccpb.KeyValue) (found, error) {
	f := found{revision: kv.GetModRevision()}
	has := f.revision            // the revision that the caller knows it by
	v, _ := presentIn(c.Key, kv) // what is no version is replaced by one
	if v != nil {
		f.number = v.Number
		if v.Deleted {
			has = 0
		}
	}
	if v == nil || r.whole {
		last, err := r.s.lastNumber(ctx, c.Key)
		if err != nil {
			return f, r.failed(ctx, named(c.Key, err))
		}
		f.number = max(f.number, last)
	}
	if c.Expect != nil && *c.Expect != has && *c.Expect != f.revision {
		return f, &ConflictError{Key: c.Key, Want: *c.Expect, Revision: has}
	}
	if c.Delete && has == 0 {
		return f, named(c.Key, ErrNotFound)
	}
	return f, nil
}

func presentIn(key string, kv *mvccpb.KeyValue) (*Version, error) {
	if kv == nil {
		return nil, ErrNotFound
	}
	return versionOf(key, kv)
}

// failed is the error of a request that wrote nothing itself.
func (r *release) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return err
}

// txn builds the transaction.
func (r *release) txn() (cmps []clientv3.Cmp, ops []clientv3.Op, err error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	for i, c := range r.changes {
		f, next := r.found[i], r.found[i].number+1
		value, version := r.s.keys.value(c.Key), r.s.keys.version(c.Key, next)
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(value), "=", f.revision),
			clientv3.Compare(clientv3.CreateRevision(version), "=", 0))
		if c.Schema != nil {
			cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(r.s.keys.schema(c.Key)), "=", *c.Schema))
		}
		if c.promotes != nil {
			cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(r.s.keys.candidate(c.Key)), "=", c.promotes.Candidate.Revision),
				clientv3.Compare(clientv3.ModRevision(r.s.keys.scope(c.Key)), "=", c.promotes.scope))
			ops = append(ops, clientv3.OpDelete(r.s.keys.candidate(c.Key)), clientv3.OpDelete(r.s.keys.scope(c.Key)))
		}
		codec := c.Codec
		if codec == "" && !c.Delete {
			codec = core.Bytes{}.Name()
		}
		data, err := record{value: c.Value, header: header{Number: next, Codec: codec, Deleted: c.Delete, Author: r.by.author,
			Message: r.by.message, Time: now, ID: r.id, Of: c.Of}}.encode()
		if err != nil {
			return nil, nil, named(c.Key, err)
		}
		ops = append(ops, clientv3.OpPut(value, string(data)), clientv3.OpPut(version, string(data)))
		if next > keep {
			ops = append(ops, clientv3.OpDelete(r.s.keys.version(c.Key, 1), clientv3.WithRange(r.s.keys.version(c.Key, next-keep+1))))
		}
	}
	return cmps, ops, nil
}

// send sends the transaction until its outcome is known. It returns the revision,
// or 0 if somebody else published first and no copy can succeed any more.
func (r *release) send(ctx context.Context) (int64, error) {
	cmps, ops, err := r.txn()
	if err != nil {
		return 0, err
	}
	for {
		revision, err := r.try(ctx, cmps, ops)
		if revision != 0 || (err != nil && !errors.Is(err, core.ErrUnknownOutcome)) {
			return revision, err
		}
		// The reply was lost; or the guards failed, perhaps since an earlier copy
		// has succeeded: etcd's client sends a request again by itself.
		answered := err == nil
		revision, open, err := r.resolve(ctx)
		if err != nil || !open {
			return revision, err
		}
		if answered { // then it was not the version that failed the guards
			r.whole = true
			return 0, nil
		}
	}
}

// try returns the revision of the transaction, or 0 if its guards failed.
func (r *release) try(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (int64, error) {
	bounded, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	resp, err := r.s.c.Txn(bounded).If(cmps...).Then(ops...).Commit()
	switch {
	case err != nil:
		return 0, commit.Classify(err)
	case resp.Succeeded:
		return resp.Header.Revision, nil
	default:
		return 0, nil
	}
}

// resolve finds out what became of a request without an answer. It is open while
// a copy may still succeed.
func (r *release) resolve(ctx context.Context) (revision int64, open bool, err error) {
	for {
		revision, open, err = r.lookForOwn(ctx)
		if err == nil && !open {
			return revision, false, nil
		}
		if err != nil && !errors.Is(commit.Classify(err), core.ErrUnknownOutcome) {
			return 0, false, &problem{is: core.ErrUnknownOutcome, why: err}
		}
		if why := r.pause(ctx); why != nil {
			return 0, false, &problem{is: core.ErrUnknownOutcome, why: why}
		}
		if err == nil {
			return 0, true, nil
		}
	}
}

func (r *release) pause(ctx context.Context) error {
	timer := time.NewTimer(r.pauses.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lookForOwn looks at the first key, which stands for all of them: what they say
// was written together.
func (r *release) lookForOwn(ctx context.Context) (revision int64, open bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, attempt)
	defer cancel()
	key, f := r.changes[0].Key, r.found[0]
	resp, err := r.s.c.Get(ctx, r.s.keys.value(key))
	if err != nil {
		return 0, false, err
	}
	kv := first(resp.Kvs)
	if v, err := presentIn(key, kv); err == nil && v.id == r.id {
		return v.Revision, false, nil
	}
	if kv.GetModRevision() == f.revision {
		return 0, true, nil
	}
	for v, err := range r.s.History(ctx, key, 0) {
		switch {
		case err != nil:
			return 0, false, err
		case v.Number <= f.number:
			return 0, false, nil
		case v.id == r.id:
			return v.Revision, false, nil
		}
	}
	return 0, false, nil
}
