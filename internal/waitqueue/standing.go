package waitqueue

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
)

// A Standing is who owns a name at one revision, and with which value. It is
// made from keys, and kept up to date by their changes.
type Standing struct {
	name   string
	keys   keys
	shared bool // by holders of permits
	grants map[string]*mvccpb.KeyValue
	given  map[string]string // by acquisition
	index  map[string]int64  // of tokens, by acquisition: of granted tickets
}

// NewStanding returns the standing of a name without an owner. With shared its
// owners hold permits.
func (q *Queue) NewStanding(named string, shared bool) *Standing {
	return &Standing{name: named, keys: q.keys(named), shared: shared, grants: make(map[string]*mvccpb.KeyValue),
		given: make(map[string]string), index: make(map[string]int64)}
}

// Prefix is what has to be followed: of an exclusive name no tickets.
func (s *Standing) Prefix() string {
	if s.shared { // the index of a token is in the ticket
		return s.keys.prefix
	}
	return s.keys.prefix + leaderPart
}

// Clear leaves the name without an owner.
func (s *Standing) Clear() {
	clear(s.grants)
	clear(s.given)
	clear(s.index)
}

// Put takes a key as it stands, Delete one that is gone.
func (s *Standing) Put(kv *mvccpb.KeyValue) {
	rest := strings.TrimPrefix(string(kv.Key), s.keys.prefix)
	switch {
	case s.isGrant(rest):
		s.grants[rest] = kv
	case strings.HasPrefix(rest, givenPart):
		s.given[strings.TrimPrefix(rest, givenPart)] = givenOf(kv)
	case strings.HasPrefix(rest, linePart):
		if _, id, err := s.keys.ticketID(string(kv.Key)); err == nil && kv.Version != waiting {
			s.index[id], _ = grantedValue(kv.Value)
		}
	}
}

// Delete takes a key away.
func (s *Standing) Delete(key string) {
	rest := strings.TrimPrefix(key, s.keys.prefix)
	switch {
	case s.isGrant(rest):
		delete(s.grants, rest)
	case strings.HasPrefix(rest, givenPart):
		delete(s.given, strings.TrimPrefix(rest, givenPart))
	case strings.HasPrefix(rest, linePart):
		if _, id, err := s.keys.ticketID(key); err == nil {
			delete(s.index, id)
		}
	}
}

func (s *Standing) isGrant(rest string) bool {
	return !s.shared && rest == grantPart || s.shared && strings.HasPrefix(rest, holdPart)
}

// Owners returns the owners, the longest first.
func (s *Standing) Owners() []Contender {
	owners := make([]Contender, 0, len(s.grants))
	for _, kv := range slices.Collect(maps.Values(s.grants)) {
		c := Contender{Name: s.name, Holds: true, Record: recordOf(kv), Lease: kv.Lease, key: string(kv.Key), revision: kv.ModRevision}
		c.Token = kv.ModRevision<<tokenShift | s.index[c.Record.ID]
		if v, ok := s.given[c.Record.ID]; ok {
			c.Record.Value = v
		}
		owners = append(owners, c)
	}
	slices.SortFunc(owners, func(a, b Contender) int { return int(min(max(a.Token-b.Token, -1), 1)) })
	return owners
}

// Grant returns create revision and version of the exclusive grant, 0 if there
// is none: they tell how often it was put.
func (s *Standing) Grant() (created, version int64) {
	kv := s.grants[grantPart]
	return kv.GetCreateRevision(), kv.GetVersion()
}

// Standing reads who owns a name, linearizably and at one revision, which it
// returns too.
func (q *Queue) Standing(ctx context.Context, named string, shared bool) (*Standing, int64, error) {
	if err := (&Request{Names: []string{named}}).checkNames(); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", core.ErrInvalid, err)
	}
	s := q.NewStanding(named, shared)
	ops := []clientv3.Op{get(prefixSpan(s.Prefix()))}
	if shared {
		ops = []clientv3.Op{get(span{s.keys.prefix + givenPart, s.keys.limit()}), get(s.keys.line())}
	}
	resp, err := q.e.Client().Txn(ctx).Then(ops...).Commit()
	if err != nil {
		return nil, 0, err
	}
	for _, r := range resp.Responses {
		for _, kv := range r.GetResponseRange().Kvs {
			s.Put(kv)
		}
	}
	return s, resp.Header.Revision, nil
}
