package config

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"time"
	"unicode"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/commit"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Scope says which instances take the value of a rollout: those that have all
// of its labels, and of them the share of Percent. Which ones are in it depends
// on the rollout and on the instance's id, so that a larger share has all those
// of a smaller one.
type Scope struct {
	Percent float64           // more than 0, at most 100
	Labels  map[string]string // nil: all instances
}

// A Rollout is a value that some instances try before all get it. It counts as
// long as the version stands that it is to replace: whatever is published
// meanwhile supersedes it.
type Rollout struct {
	Candidate  *Version // its Revision names the rollout; it has no number yet
	Scope      Scope    // who tries it
	Base       int64    // the revision of the version that it is to replace; 0: none
	Superseded bool     // another version has been published
	Refused    bool     // nobody takes it any more
	By         string   // who refused
	Reason     string   // and why

	id    string
	scope int64 // mod revision of the scope's key
}

// running reports whether instances in scope take the candidate.
func (r *Rollout) running() bool { return r != nil && !r.Superseded && !r.Refused }

// scopeRecord is what stands in the scope's key.
type scopeRecord struct {
	V       int               `json:"v"`
	ID      string            `json:"id"` // of the candidate
	Percent float64           `json:"percent"`
	Labels  map[string]string `json:"labels,omitempty"`
	Refused bool              `json:"refused,omitempty"`
	By      string            `json:"by,omitempty"`
	Reason  string            `json:"reason,omitempty"`
}

// rolloutOf reads a rollout from its two keys, nil if they are none. value is the
// mod revision of the present version.
func rolloutOf(key string, candidate, scope *mvccpb.KeyValue, value int64) *Rollout {
	if candidate == nil || scope == nil {
		return nil
	}
	r, err := decode(candidate.Value)
	var s scopeRecord
	if err != nil || json.Unmarshal(scope.Value, &s) != nil || s.V != recordVersion || s.ID != r.ID {
		return nil
	}
	v := r.version(key)
	v.Revision, v.Number = candidate.ModRevision, 0
	return &Rollout{Candidate: v, Scope: Scope{Percent: s.Percent, Labels: s.Labels}, Base: r.Base, Superseded: r.Base != value,
		Refused: s.Refused, By: s.By, Reason: s.Reason, id: r.ID, scope: scope.ModRevision}
}

// shares is how finely instances are divided: hundredths of a percent.
const shares = 10_000

// has reports whether an instance is in the scope of a rollout.
func (s Scope) has(rollout, instance string, labels map[string]string) bool {
	for k, v := range s.Labels {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	sum := sha256.Sum256([]byte(rollout + "/" + instance))
	return float64(binary.BigEndian.Uint64(sum[:8])%shares) < s.Percent*shares/100
}

func (s Scope) check() error {
	if !(s.Percent > 0 && s.Percent <= 100) {
		return invalid("percent: %v is not more than 0 and at most 100", s.Percent)
	}
	return checkLabels(s.Labels)
}

// The limits of labels.
const (
	maxLabels = 32
	maxLabel  = 255
)

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalid("labels: %d, the limit is %d", len(labels), maxLabels)
	}
	for k, v := range labels {
		if k == "" {
			return invalid("labels: a name is empty")
		}
		for _, text := range []string{k, v} {
			if err := keyspace.CheckText("labels", text, maxLabel); err != nil {
				return invalid("%w", err)
			}
		}
	}
	return nil
}

// Rollout reads the rollout of a key, also one that is over. The error is
// [ErrNotFound] if there is none.
func (s *Store) Rollout(ctx context.Context, key string) (*Rollout, error) {
	if err := s.check(key); err != nil {
		return nil, err
	}
	resp, err := s.c.Txn(ctx).Then(clientv3.OpGet(s.keys.value(key), clientv3.WithKeysOnly()),
		clientv3.OpGet(s.keys.candidate(key)), clientv3.OpGet(s.keys.scope(key))).Commit()
	if err != nil {
		return nil, named(key, err)
	}
	var kvs [3]*mvccpb.KeyValue
	for i := range kvs {
		kvs[i] = first(resp.Responses[i].GetResponseRange().GetKvs())
	}
	r := rolloutOf(key, kvs[1], kvs[2], kvs[0].GetModRevision())
	if r == nil {
		return nil, named(key, ErrNotFound)
	}
	return r, nil
}

// StartRollout lets the instances in scope try a value, and returns the revision
// that names the rollout. It takes the place of one before, running or over.
// Expect and Schema of c have the meaning that they have in a publication; a
// tombstone cannot be rolled out.
//
// The error is core.ErrInvalid, [ErrConflict], [ErrSchemaChanged]: nothing was
// written; core.ErrUnknownOutcome; or etcd's.
func (s *Store) StartRollout(ctx context.Context, c Change, scope Scope, opts ...PublishOption) (int64, error) {
	p, err := s.opts.publication(opts)
	if err == nil {
		err = s.checkChanges([]Change{c})
	}
	if err == nil && c.Delete {
		err = named(c.Key, invalid("delete: a tombstone is for all at once"))
	}
	if err == nil {
		err = scope.check()
	}
	if err != nil {
		return 0, err
	}
	r := &release{s: s, changes: []Change{c}, by: p, id: rand.Text()}
	if err := r.read(ctx); err != nil {
		return 0, err
	}
	base := r.found[0].revision
	codec := c.Codec
	if codec == "" {
		codec = core.Bytes{}.Name()
	}
	data, err := record{value: c.Value, header: header{Number: r.found[0].number + 1, Codec: codec, Author: p.author, Message: p.message,
		Time: time.Now().UTC().Truncate(time.Millisecond), ID: r.id, Base: base}}.encode()
	if err != nil {
		return 0, named(c.Key, err)
	}
	cmps := []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.keys.value(c.Key)), "=", base)}
	if c.Schema != nil {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(s.keys.schema(c.Key)), "=", *c.Schema))
	}
	return s.write(ctx, c.Key, cmps, clientv3.OpPut(s.keys.candidate(c.Key), string(data)), s.scopeOp(c.Key, r.id, scope, "", ""))
}

func (s *Store) scopeOp(key, id string, scope Scope, by, reason string) clientv3.Op {
	data, err := json.Marshal(scopeRecord{V: recordVersion, ID: id, Percent: scope.Percent, Labels: scope.Labels, Refused: by != "", By: by, Reason: reason})
	if err != nil {
		panic(err) // a struct of texts and one finite number
	}
	return clientv3.OpPut(s.keys.scope(key), string(data))
}

// write commits a guarded transaction of which a second copy does no harm. A
// failed guard is [ErrConflict].
func (s *Store) write(ctx context.Context, key string, cmps []clientv3.Cmp, ops ...clientv3.Op) (int64, error) {
	resp, err := s.c.Txn(ctx).If(cmps...).Then(ops...).Commit()
	switch {
	case err != nil:
		return 0, named(key, commit.Classify(err))
	case !resp.Succeeded:
		return 0, named(key, ErrConflict)
	}
	return resp.Header.Revision, nil
}

// current reads the running rollout that revision names.
func (s *Store) current(ctx context.Context, key string, revision int64) (*Rollout, error) {
	r, err := s.Rollout(ctx, key)
	if errors.Is(err, ErrNotFound) || (err == nil && (!r.running() || r.Candidate.Revision != revision)) {
		return nil, named(key, ErrNoRollout)
	}
	return r, err
}

// guards holds a write to the rollout as it was read.
func (s *Store) guards(key string, r *Rollout) []clientv3.Cmp {
	return []clientv3.Cmp{
		clientv3.Compare(clientv3.ModRevision(s.keys.candidate(key)), "=", r.Candidate.Revision),
		clientv3.Compare(clientv3.ModRevision(s.keys.scope(key)), "=", r.scope),
	}
}

// SetScope changes which instances try the value of the running rollout that
// revision names. The error is [ErrNoRollout], or [ErrConflict] if it changed at
// the same moment.
func (s *Store) SetScope(ctx context.Context, key string, revision int64, scope Scope) error {
	if err := scope.check(); err != nil {
		return err
	}
	r, err := s.current(ctx, key, revision)
	if err != nil {
		return err
	}
	_, err = s.write(ctx, key, s.guards(key, r), s.scopeOp(key, r.id, scope, "", ""))
	return err
}

// Refuse ends the running rollout that revision names: every instance goes back to
// the version that all others have. by and reason are told in its [Rollout]. A
// rollout that is over already is no error.
func (s *Store) Refuse(ctx context.Context, key string, revision int64, by, reason string) error {
	if by == "" {
		by = s.opts.author
	}
	for {
		r, err := s.current(ctx, key, revision)
		if errors.Is(err, ErrNoRollout) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = s.write(ctx, key, s.guards(key, r), s.scopeOp(key, r.id, r.Scope, cutTo(by, MaxAuthor), cutTo(reason, MaxMessage)))
		if !errors.Is(err, ErrConflict) { // its scope was changed meanwhile
			return err
		}
	}
}

// cutTo makes a text one that can be stored.
func cutTo(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, ""))
	return strings.ToValidUTF8(text[:min(len(text), limit)], "")
}

// Promote publishes the value of the running rollout that revision names as a
// version for all, and ends the rollout, in one transaction. Instances that have
// the value keep it. The error is [ErrNoRollout], or those of [Store.Publish].
// schema is as in [Change].
func (s *Store) Promote(ctx context.Context, key string, revision int64, schema *int64, opts ...PublishOption) (int64, error) {
	r, err := s.current(ctx, key, revision)
	if err != nil {
		return 0, err
	}
	if len(opts) == 0 {
		opts = []PublishOption{Author(r.Candidate.Author), Message(r.Candidate.Message)}
	}
	return s.Publish(ctx, []Change{{Key: key, Value: r.Candidate.Value, Codec: r.Candidate.Codec, Schema: schema, Expect: &r.Base, promotes: r}}, opts...)
}
