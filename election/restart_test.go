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

// compactAndRestart writes what no observer of an election sees, and makes etcd forget
// it before they are back.
func (r *restartable) compactAndRestart(t *testing.T) {
	t.Helper()
	var revision int64
	for i := range 10 {
		put, err := r.member.Client().Put(within(t), fmt.Sprint("noise-", i), "")
		if err != nil {
			t.Fatal(err)
		}
		revision = put.Header.Revision
	}
	if err := r.member.Close(); err != nil {
		t.Fatal(err)
	}
	r.start(t)
	if _, err := r.member.Client().Compact(within(t), revision); err != nil {
		t.Fatal(err)
	}
}

// A witness writes down all that it observes: the tokens of terms, 0 for a vacancy.
type witness struct {
	mu     sync.Mutex
	tokens []core.Token
	gap    bool
}

func (w *witness) see(l election.Leader) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gap = w.gap || l.Gap
	w.tokens = append(w.tokens, l.Token)
}

func (w *witness) seen() ([]core.Token, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.tokens), w.gap
}

// caughtUp waits until this term was the last that it saw.
func (w *witness) caughtUp(t *testing.T, token core.Token) {
	t.Helper()
	eventually(t, "an observer sees the last term", func() bool {
		tokens, _ := w.seen()
		return len(tokens) > 0 && tokens[len(tokens)-1] == token
	})
}

// 200 observers see every term exactly once and in order, and every vacancy, through
// 20 changes of leaders, a compaction and a restart of etcd: a compaction, too, of
// revisions that they have not seen when they come back.
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
	seen := []core.Token{0, term.Token()}
	for i := 1; i <= changes; i++ {
		if i == changes/2 {
			for _, w := range witnesses { // what is compacted unseen cannot be shown
				w.caughtUp(t, term.Token())
			}
			r.compactAndRestart(t)
		}
		var next *call[*election.Term]
		if i%3 > 0 { // handed over, or after a vacancy
			next = campaigning(t, candidates[i%2], fmt.Sprint("leader ", i), 2)
		}
		resign(t, term)
		if next != nil {
			term = next.get(t)
		} else {
			term, seen = won(t, candidates[i%2], fmt.Sprint("leader ", i)), append(seen, 0)
		}
		seen = append(seen, term.Token())
	}
	for i, w := range witnesses {
		w.caughtUp(t, term.Token())
		if tokens, gap := w.seen(); !slices.Equal(tokens, seen) || gap {
			t.Fatalf("observer %d saw the terms %v, gap %v, want %v", i, tokens, gap, seen)
		}
	}
	resign(t, term)
}
