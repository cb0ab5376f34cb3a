package election_test

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/embedded"
	"github.com/conclavehq/conclave/election"
)

// faulty opens a session whose requests a test can lose.
func faulty(tb testing.TB) (*core.Session, *coretest.Faults) {
	tb.Helper()
	f := coretest.NewFaults()
	s, err := core.NewSession(within(tb), etcd.Client(tb, f.DialOptions()...), core.WithTTL(4*patience))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		f.Clear()
		_ = s.Close()
	})
	return s, f
}

// P12: a watch that is lost is no news: a candidate does not win by it, and an
// observer sees no vacancy.
func TestP12LostWatchIsNoNews(t *testing.T) {
	name := etcd.Prefix(t)
	term := won(t, election.New(session(t), name), "one")
	e, link := linked(t, name)
	o := observing(t, e)
	o.sees(t, "one")
	ctx := within(t)
	candidate := inBackground(func() (*election.Term, error) { return e.Campaign(ctx, "two") })
	contenders(t, election.New(session(t), name), 2)
	for range 3 {
		link.Cut()
		compact(t)
		link.Heal()
		leader(t, e) // the connection is back
	}
	select {
	case <-candidate.done:
		t.Fatalf("won beside a leader: %v, %v", candidate.value, candidate.err)
	default:
	}
	o.quiet(t)
	resign(t, term)
	resign(t, candidate.get(t))
	o.sees(t, "two", "")
}

// Replies of a proclamation and of a resignation are lost.
func TestLostReplies(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	e := election.New(s, name)
	term := won(t, e, "one")
	next := campaigning(t, election.New(session(t), name), "two", 2)
	f.LoseReply(coretest.Puts("/given/"))
	isAll(t, term.Proclaim(within(t), "one, later"), core.ErrUnknownOutcome)
	if l := leader(t, e); l.Value != "one, later" {
		t.Errorf("leader %+v", l)
	}
	f.LoseReply(coretest.Deletes("/given/"), coretest.Times(2))
	resign(t, term)
	resign(t, next.get(t))
	nothingLeft(t, name)
}

// A proclamation that arrives after the term does nothing.
func TestLateProclamation(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	term := won(t, election.New(s, name), "one")
	late := f.Late(coretest.Puts("/given/"))
	isAll(t, term.Proclaim(within(t), "one, later"), core.ErrUnknownOutcome)
	resign(t, term)
	if _, err := late.Deliver(within(t)); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, name)
}

// Every reply of a transfer is lost once: the contender leads in the end.
func TestTransferWithLostReplies(t *testing.T) {
	name := etcd.Prefix(t)
	s, f := faulty(t)
	term := won(t, election.New(s, name), "one")
	second := campaigning(t, election.New(session(t), name), "two", 2)
	chosen := campaigning(t, election.New(session(t, core.WithOwner("chosen")), name), "three", 3)
	ctx := within(t)
	e := election.New(session(t), name)
	done := inBackground(func() (struct{}, error) { return struct{}{}, e.Transfer(ctx, "chosen") })
	isAll(t, ended(t, term), election.ErrTransferred)
	f.LoseReply(coretest.Puts("/grant"), coretest.Times(2))
	resign(t, term)
	done.get(t)
	resign(t, chosen.get(t))
	resign(t, second.get(t))
	nothingLeft(t, name)
}

// restartable is a member that stops and starts on the same directory and port.
type restartable struct {
	config embedded.Config
	member *embedded.Member
}

func startMember(t *testing.T) *restartable {
	t.Helper()
	r := &restartable{config: embedded.Config{Name: "restarted", DataDir: t.TempDir(), ClientAddr: "127.0.0.1:0", PeerAddr: "127.0.0.1:0",
		Fast: true, NoFsync: true}}
	r.start(t)
	r.config.ClientAddr = must[*url.URL](t)(url.Parse(r.member.Endpoints()[0])).Host
	t.Cleanup(func() {
		if err := r.member.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *restartable) start(t *testing.T) {
	t.Helper()
	r.member = must[*embedded.Member](t)(embedded.Start(within(t), r.config))
}

func (r *restartable) session(t *testing.T) *core.Session {
	t.Helper()
	s, err := core.NewSession(within(t), coretest.Dial(t, r.member.Endpoints()[0]), core.WithTTL(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// A witness writes down the terms that it observes.
type witness struct {
	mu     sync.Mutex
	tokens []core.Token
	gap    bool
}

func (w *witness) see(l election.Leader) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap = w.gap || l.Gap
	if n := len(w.tokens); !l.Vacant() && (n == 0 || w.tokens[n-1] != l.Token) {
		w.tokens = append(w.tokens, l.Token)
	}
}

func (w *witness) seen() ([]core.Token, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.tokens), w.gap
}

// 200 observers see every term once and in order, through 20 changes of leaders,
// a compaction and a restart of etcd.
func TestObserversThroughARestart(t *testing.T) {
	const observers, sessions, changes = 200, 20, 20
	r := startMember(t)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	witnesses := make([]*witness, observers)
	var begun atomic.Int32
	var elections []*election.Election
	for range sessions {
		elections = append(elections, election.New(r.session(t), "jobs"))
	}
	for i := range witnesses {
		w := &witness{}
		witnesses[i] = w
		running.Go(func() {
			first := true
			for l, err := range elections[i%sessions].Observe(ctx) {
				if err != nil {
					return
				}
				if w.see(l); first {
					begun.Add(1)
				}
				first = false
			}
		})
	}
	eventually(t, "all observe", func() bool { return begun.Load() == observers })
	candidates := []*election.Election{election.New(r.session(t), "jobs"), election.New(r.session(t), "jobs")}
	term := won(t, candidates[0], "leader 0")
	tokens := []core.Token{term.Token()}
	for i := 1; i < changes; i++ {
		switch i {
		case changes / 3:
			if _, err := r.member.Client().Compact(within(t), must[election.Leader](t)(candidates[0].Leader(within(t))).Revision); err != nil {
				t.Fatal(err)
			}
		case changes / 2:
			if err := r.member.Close(); err != nil {
				t.Fatal(err)
			}
			r.start(t)
		}
		var next *call[*election.Term]
		if i%3 > 0 { // handed over, or after a vacancy
			next = campaigning(t, candidates[i%2], fmt.Sprint("leader ", i), 2)
		}
		resign(t, term)
		if next != nil {
			term = next.get(t)
		} else {
			term = won(t, candidates[i%2], fmt.Sprint("leader ", i))
		}
		tokens = append(tokens, term.Token())
	}
	for i, w := range witnesses {
		eventually(t, "an observer sees the last term", func() bool {
			seen, _ := w.seen()
			return len(seen) > 0 && seen[len(seen)-1] == term.Token()
		})
		if seen, gap := w.seen(); !slices.Equal(seen, tokens) || gap {
			t.Fatalf("observer %d saw the terms %v, gap %v, want %v", i, seen, gap, tokens)
		}
	}
	resign(t, term)
}
