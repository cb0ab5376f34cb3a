package barrier

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/barrier/internal/rendezvous"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/internal/keyspace"
)

// A Kind is one of the package's types.
type Kind string

// The kinds.
const (
	KindBarrier Kind = "barrier"
	KindDouble  Kind = "double"
	KindCyclic  Kind = "cyclic"
	KindLatch   Kind = "latch"
)

// A Phase is what a barrier does now.
type Phase string

// The phases.
const (
	PhaseOpen      Phase = "open"      // nobody is kept waiting
	PhaseHeld      Phase = "held"      // somebody holds the barrier, or it is broken
	PhaseGathering Phase = "gathering" // parties wait for others, or operations are counted
	PhaseInside    Phase = "inside"    // the parties are inside
)

// A State is what one kind of one name is like.
type State struct {
	Name       string  // of the barrier
	Kind       Kind    // which type
	Phase      Phase   // what it does
	Generation int64   // from 1 on; of a Barrier 0
	Parties    int     // how many it is for; of a Latch the count; of a Barrier 0
	There      int     // how many hold it, came, or were counted
	Breaks     bool    // a loss breaks the generation
	Members    []Party // who holds it or came; of a Latch nobody
}

// A Query says what List returns.
type Query struct {
	Namespace string // empty: "default"
	Prefix    string // only names that begin with it
	After     string // the Next of the page before; empty: from the beginning
	Limit     int    // the most names of a page, from 1 to 1,000; 0: 100
}

// A Page is a part of a list, at one revision.
type Page struct {
	States   []State // by the name's spelling in keys, then by kind
	Next     string  // the first name of the next page; empty: there is none
	Revision int64   // at which it was so
}

// pageKeys is how many keys one read returns.
const pageKeys = 1000

// List returns the barriers of a namespace that anybody holds, and the double and
// cyclic barriers and latches that were used. It only reads.
//
// It returns core.ErrInvalid for a query outside its limits, and etcd's error.
func List(ctx context.Context, c *clientv3.Client, q Query) (*Page, error) {
	if err := q.check(); err != nil {
		return nil, err
	}
	all := keyspace.RecipePrefix(q.Namespace, recipe)
	from, end := all, keyspace.End(all)
	if q.Prefix != "" {
		from = all + keyspace.Escape(q.Prefix)
		end = keyspace.End(from)
	}
	if q.After != "" {
		from = max(from, keyspace.Prefix(q.Namespace, recipe, q.After))
	}
	l := lister{q: q, page: new(Page)}
	for from < end {
		resp, err := c.Get(ctx, from, clientv3.WithRange(end), clientv3.WithLimit(pageKeys), clientv3.WithRev(l.page.Revision))
		if err != nil {
			return nil, fmt.Errorf("list barriers: %w", err)
		}
		if l.page.Revision == 0 {
			l.page.Revision = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			if !l.add(kv) {
				return l.page, nil
			}
		}
		if !resp.More || len(resp.Kvs) == 0 {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	l.finish()
	return l.page, nil
}

func (q *Query) check() error {
	if q.Namespace == "" {
		q.Namespace = "default"
	}
	if q.Limit == 0 {
		q.Limit = 100
	}
	err := keyspace.CheckNamespace("namespace", q.Namespace)
	if q.Limit < 1 || q.Limit > 1000 {
		err = errors.Join(err, fmt.Errorf("limit: %d is outside 1 to 1000", q.Limit))
	}
	err = errors.Join(err, keyspace.CheckText("prefix", q.Prefix, keyspace.MaxName))
	if q.After != "" {
		err = errors.Join(err, keyspace.CheckName("after", q.After))
	}
	if err != nil {
		return fmt.Errorf("list barriers: %w: %w", core.ErrInvalid, err)
	}
	return nil
}

// A lister sorts keys by name.
type lister struct {
	q     Query
	page  *Page
	name  string
	kvs   []*mvccpb.KeyValue
	names int
}

// add takes the next key; it reports false when the page is full.
func (l *lister) add(kv *mvccpb.KeyValue) bool {
	k, err := keyspace.Parse(string(kv.Key))
	if err != nil || strings.HasPrefix(k.Rest, "void/") {
		return true // somebody else's, or nothing that counts
	}
	if k.Name != l.name {
		l.finish()
		if l.names == l.q.Limit {
			l.page.Next = k.Name
			return false
		}
		l.name = k.Name
	}
	l.kvs = append(l.kvs, kv)
	return true
}

// finish tells what the keys of one name mean.
func (l *lister) finish() {
	if len(l.kvs) == 0 {
		return
	}
	st := rendezvous.StatusOf(l.name, keyspace.Prefix(l.q.Namespace, recipe, l.name), l.kvs)
	l.kvs = nil
	states := statesOf(st)
	l.page.States = append(l.page.States, states...)
	l.names += min(1, len(states))
}

func statesOf(st rendezvous.Status) []State {
	var states []State
	if parties := partiesOf(st.Holders); len(parties) > 0 {
		states = append(states, State{Name: st.Name, Kind: KindBarrier, Phase: PhaseHeld, There: len(parties), Members: parties})
	}
	for _, r := range st.Rooms {
		s := State{Name: st.Name, Kind: Kind(r.Kind), Phase: PhaseGathering, Generation: r.Generation, Parties: r.Parties,
			There: len(r.Members), Breaks: r.Breaks, Members: partiesOf(r.Members)}
		switch {
		case r.Inside():
			s.Phase = PhaseInside
		case r.Opened():
			s.Phase = PhaseOpen
		}
		if r.Kind == rendezvous.Latch {
			s.There = min(r.Counted, r.Parties)
		}
		states = append(states, s)
	}
	return states
}
