package waitqueue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// deafTo opens a session that hears of no event on a key that contains part, until
// cured is called.
func deafTo(tb testing.TB, part string) (q *Queue, cured func()) {
	tb.Helper()
	var hears atomic.Bool
	deaf := grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string,
		stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		s, err := stream(ctx, desc, cc, method, opts...)
		return deafStream{s, part, &hears}, err
	})
	s, err := core.NewSession(bounded(tb), etcd.Client(tb, deaf), core.WithTTL(4*patience))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return For(s, "lock"), func() { hears.Store(true) }
}

type deafStream struct {
	grpc.ClientStream
	part  string
	hears *atomic.Bool
}

func (s deafStream) RecvMsg(m any) error {
	for {
		err := s.ClientStream.RecvMsg(m)
		resp, ok := m.(*pb.WatchResponse)
		if err != nil || !ok || len(resp.Events) == 0 || s.hears.Load() {
			return err
		}
		resp.Events = slices.DeleteFunc(resp.Events, func(ev *mvccpb.Event) bool { return strings.Contains(string(ev.Kv.Key), s.part) })
		if len(resp.Events) > 0 {
			return nil
		}
	}
}

// unwatched acquires, and keeps the owner from watching its grant, as a slow machine
// would.
func unwatched(tb testing.TB, q *Queue, r *Request) *Owned {
	tb.Helper()
	o := acquired(tb, q, r)
	q.late.remove(o.t)
	return o
}

// An endingOf is how an ownership goes while nobody watches it.
type endingOf struct {
	name string
	by   func(tb testing.TB, o *Owned)
	want error
	text string // that the error has to contain
}

// ofSets tells whether a set can end like this and its owner find out: who lets go
// of names whose record was deleted does so in order.
func (e *endingOf) ofSets(how string) bool {
	if how == "resumes" {
		return false
	}
	return e.name == "forced" || e.name == "expired" || e.name == "deleted" && how != "releases"
}

var endings = []endingOf{
	{"forced", func(tb testing.TB, o *Owned) {
		operator, _ := open(tb)
		if _, err := operator.Force(bounded(tb), o.Names()[len(o.Names())-1], "testing"); err != nil {
			tb.Fatal(err)
		}
	}, core.ErrRevoked, ": testing"},
	{"forced, and owned by others since", func(tb testing.TB, o *Owned) {
		operator, _ := open(tb)
		for range 2 {
			if _, err := operator.Force(bounded(tb), o.Names()[0], "testing"); err != nil {
				tb.Fatal(err)
			}
			other := exclusive(o.Names()[0])
			other.Mode = Exclusive
			acquired(tb, operator, other)
		}
	}, core.ErrRevoked, ": testing"},
	{"transferred", func(tb testing.TB, o *Owned) { released(tb, handedTo(tb, o)) }, core.ErrRevoked, ": transferred to "},
	{"transferred, and the heir owns", func(tb testing.TB, o *Owned) { handedTo(tb, o) }, core.ErrRevoked, ": transferred to "},
	{"deleted", func(tb testing.TB, o *Owned) { deleted(tb, o.a.proof()) }, core.ErrKeyDeleted, ""},
	{"expired", func(tb testing.TB, o *Owned) { coretest.ExpireLease(tb, etcd.Client(tb), o.q.e.Lease()) }, core.ErrSessionExpired, ""},
}

func deleted(tb testing.TB, key string) {
	tb.Helper()
	if r, err := etcd.Client(tb).Delete(bounded(tb), key); err != nil || r.Deleted != 1 {
		tb.Fatalf("%d keys %s deleted: %v", r.Deleted, key, err)
	}
}

// handedTo transfers o to another session's waiter, without any grace.
func handedTo(tb testing.TB, o *Owned) *Owned {
	tb.Helper()
	heir, _ := open(tb)
	r := *o.a.req
	waits := background(tb, bounded(tb), heir, &r)
	name := o.Names()[0]
	id := waiterOf(tb, heir, name, r.Permits)
	if err := heir.Transfer(bounded(tb), name, o.a.id, id); err != nil {
		tb.Fatal(err)
	}
	return served(tb, waits)
}

// findings are how an owner comes to know that its ownership is over.
var findings = map[string]func(tb testing.TB, o *Owned) error{
	"looks": func(tb testing.TB, o *Owned) error {
		o.t.lookAndWatch()
		return endOf(tb, o)
	},
	"hears": func(tb testing.TB, o *Owned) error {
		o.t.watch()
		return endOf(tb, o)
	},
	"releases": func(_ testing.TB, o *Owned) error { return o.Release() },
	"commits": func(tb testing.TB, o *Owned) error {
		_, err := o.Commit(bounded(tb), nil)
		return err
	},
	"resumes": func(tb testing.TB, o *Owned) error {
		place, err := o.Detach() // nobody asked etcd yet
		if err != nil {
			tb.Fatal(err)
		}
		again, err := o.q.ResumeAt(o.Names()[0], place, o.a.req.Lost)
		if err != nil {
			tb.Fatal(err)
		}
		return again.Release()
	},
	"downgrades": func(tb testing.TB, o *Owned) error {
		_, err := o.Downgrade(bounded(tb))
		return err
	},
}

// endOf waits for the end of an ownership and returns its cause.
func endOf(tb testing.TB, o *Owned) error {
	tb.Helper()
	select {
	case <-o.Context().Done():
	case <-bounded(tb).Done():
		tb.Fatal("the ownership does not end")
	}
	return context.Cause(o.Context())
}

func shared(name string) *Request {
	r := exclusive(name)
	r.Mode = Shared
	return r
}

func setOf(name string) *Request {
	r := exclusive(name)
	r.Mode, r.Names = Set, []string{name + "-a", name + "-b"}
	return r
}

// An owner that nobody told in time learns why its ownership ended all the same, in
// whatever way it finds out: it never hears of a notice here.
func TestCauseIsReadInTheHistory(t *testing.T) {
	modes := map[string]func(string) *Request{"exclusive": exclusive, "shared": shared, "set": setOf,
		"permits": func(name string) *Request { return permits(name, 2) }}
	for mode, request := range modes {
		for _, e := range endings {
			for how, finds := range findings {
				r := request(etcd.Prefix(t))
				if r.Mode == Shared && strings.HasPrefix(e.name, "transferred") || r.Mode == Set && !e.ofSets(how) || r.Mode != Exclusive && how == "downgrades" {
					continue
				}
				t.Run(mode+" "+e.name+" "+how, func(t *testing.T) {
					t.Parallel()
					r.Names[0], r.Apart = etcd.Prefix(t), how == "resumes"
					q, _ := deafTo(t, "/"+noticePart)
					o := unwatched(t, q, r)
					e.by(t, o)
					err := finds(t, o)
					if !errors.Is(err, errLost) || !errors.Is(err, e.want) || !strings.Contains(err.Error(), e.text) {
						t.Errorf("error %v, want %v and %q", err, e.want, e.text)
					}
					if err := o.Release(); !errors.Is(err, errLost) {
						t.Errorf("release: %v", err)
					}
				})
			}
		}
	}
}

// compacted lets etcd forget what was before now.
func compacted(tb testing.TB) {
	tb.Helper()
	client := etcd.Client(tb)
	put, err := client.Put(bounded(tb), "compacted", "") // a revision can be compacted once
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := client.Compact(bounded(tb), put.Header.Revision); err != nil {
		tb.Fatal(err)
	}
}

// The history is not etcd's for ever: an owner older than it learns the cause if
// the end is in it, and else that its grant is gone, at once.
func TestCauseAfterACompaction(t *testing.T) {
	for how, finds := range findings {
		for when, want := range map[string]error{"before the end": core.ErrRevoked, "after the end": core.ErrKeyDeleted} {
			t.Run(how+", compacted "+when, func(t *testing.T) {
				q, _ := deafTo(t, "/"+noticePart)
				o := unwatched(t, q, apart(etcd.Prefix(t)))
				if errors.Is(want, core.ErrRevoked) {
					compacted(t)
				}
				released(t, handedTo(t, o))
				if errors.Is(want, core.ErrKeyDeleted) {
					compacted(t)
				}
				if err := finds(t, o); !errors.Is(err, errLost) || !errors.Is(err, want) {
					t.Errorf("error %v, want %v", err, want)
				}
				_ = o.Release()
			})
		}
	}
}

// A waiter that owned for a moment, and heard of nothing, is told that it was forced
// out.
func TestCauseOfAWaitThatWasOver(t *testing.T) {
	for _, e := range endings {
		byHand := errors.Is(e.want, core.ErrKeyDeleted)
		if byHand { // but without the grant the ticket still says that it owns
			e.by = func(tb testing.TB, o *Owned) { deleted(tb, o.a.parts[0].ticket) }
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			name := etcd.Prefix(t)
			first, _ := open(t)
			o := acquired(t, first, exclusive(name))
			q, cured := deafTo(t, "/"+linePart)
			waits := background(t, bounded(t), q, exclusive(name))
			id := waiterOf(t, q, name, 0)
			if !byHand {
				released(t, o)
			}
			n := q.use(name)
			defer q.drop(n)
			n.mu.Lock()
			a := n.tickets[n.ticket(bucketOf(0), id)]
			n.mu.Unlock()
			e.by(t, &Owned{q: q, a: a, t: &tenure{a: a}})
			cured()
			a.see(func(s *sightings) { s.look = true })
			if r := outcome(t, waits); !errors.Is(r.err, e.want) || !strings.Contains(r.err.Error(), e.text) {
				t.Errorf("error %v, want %v and %q", r.err, e.want, e.text)
			}
		})
	}
}
