//go:build unix

package barrier_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/barrier"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

// children are the functions that run as processes of their own.
func children() map[string]func() int {
	return map[string]func() int{"member": asChild(member), "insider": asChild(insider)}
}

// lifetime is how long a child may live.
const lifetime = 10 * time.Minute

// asChild gives a child function a session on the etcd of its parent.
func asChild(run func(ctx context.Context, s *core.Session, name string, parties int) error) func() int {
	return func() int {
		ctx, cancel := context.WithTimeout(context.Background(), lifetime)
		defer cancel()
		err := func() error {
			parties, err := strconv.Atoi(os.Getenv("PARTIES"))
			if err != nil {
				return err
			}
			c, err := clientv3.New(clientv3.Config{Endpoints: []string{os.Getenv("ENDPOINT")}, Logger: zap.NewNop()})
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := core.NewSession(ctx, c, core.WithTTL(5*time.Second))
			if err != nil {
				return err
			}
			defer s.Close()
			return run(ctx, s, os.Getenv("NAME"), parties)
		}()
		if err != nil {
			fmt.Fprintln(os.Stderr, "child:", err)
			return 1
		}
		return 0
	}
}

// turn is how long a member's Enter and its Leave may take in all: only a hang
// reaches it.
const turn = 2 * time.Minute

// member enters and leaves, again and again, until it is killed. After each step it
// says what revision etcd was at, at the least.
func member(ctx context.Context, s *core.Session, name string, parties int) error {
	d := barrier.NewDouble(s, name, parties)
	fmt.Println("ready", int64(s.Lease()))
	for {
		if err := takeTurn(ctx, s, d); err != nil {
			fmt.Println("failed", err)
			return err
		}
	}
}

func takeTurn(ctx context.Context, s *core.Session, d *barrier.Double) error {
	ctx, cancel := context.WithTimeout(ctx, turn)
	defer cancel()
	entry, err := d.Enter(ctx)
	for errors.Is(err, barrier.ErrFull) { // somebody is inside yet, perhaps one that was killed
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		entry, err = d.Enter(ctx)
	}
	if err != nil {
		return err
	}
	if err := tell(ctx, s, "entered", entry); err != nil {
		return err
	}
	if err := entry.Leave(ctx); err != nil {
		return err
	}
	return tell(ctx, s, "left", entry)
}

func tell(ctx context.Context, s *core.Session, what string, e *barrier.Entry) error {
	resp, err := s.Client().Get(ctx, "the revision")
	if err != nil {
		return err
	}
	fmt.Println(what, e.Generation(), int64(e.Token())>>16, resp.Header.Revision)
	return nil
}

// insider enters, holds a barrier too, and looks at each line of its input whether
// it still is and does.
func insider(ctx context.Context, s *core.Session, name string, parties int) error {
	entry, err := barrier.NewDouble(s, name, parties).Enter(ctx)
	if err != nil {
		return err
	}
	hold, err := barrier.New(s, name).Hold(ctx)
	if err != nil {
		return err
	}
	fmt.Println("inside")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		// The first look after a pause: no timer of this process has fired yet.
		if entry.Context().Err() == nil && hold.Context().Err() == nil {
			fmt.Println("working")
			continue
		}
		for _, err := range []error{entry.Leave(ctx), hold.Release(), second(entry.Commit(ctx, clientv3.OpPut("guarded/"+name, "stale")))} {
			fmt.Println("lost", errors.Is(err, barrier.ErrLost) && errors.Is(err, core.ErrSessionExpired))
		}
		// Past all that the library checks here: etcd itself refuses.
		resp, err := s.Client().Txn(ctx).If(entry.IsOwner()).Then(clientv3.OpPut("guarded/"+name, "stale")).Commit()
		if err != nil {
			return err
		}
		fmt.Println("committed", resp.Succeeded)
	}
	return in.Err()
}

// TestPausedMember pauses a process that is inside, and holds, for longer than its
// TTL: the others go on, and on waking it knows before it does anything.
func TestPausedMember(t *testing.T) {
	t.Parallel()
	name := etcd.Prefix(t)
	p := coretest.Child(t, "insider", "ENDPOINT="+etcd.Endpoint(), "NAME="+name, "PARTIES=2")
	s := session(t, core.WithTTL(time.Minute))
	e := must[*barrier.Entry](t)(barrier.NewDouble(s, name, 2).Enter(within(t)))
	p.ExpectLine("inside")
	p.Send("look")
	p.ExpectLine("working")
	w, l := waitingFor(within(t), barrier.New(s, name)), leaving(within(t), e)
	w.pending(t)
	l.pending(t)
	p.Stop()
	p.Send("look")
	w.get(t)
	l.get(t)
	p.Cont()
	for range 3 {
		if got := p.ExpectLine("lost"); strings.TrimSpace(got) != "true" {
			t.Errorf("on waking: lost %s", got)
		}
	}
	if got := p.ExpectLine("committed"); strings.TrimSpace(got) != "false" {
		t.Errorf("a late write: committed %s", got)
	}
	if stale := etcd.Dump(t, "guarded/"+name); len(stale) > 0 {
		t.Errorf("a late write: %q", stale[0].Value)
	}
	onlyStates(t, name)
}

// A troupe are the processes that meet.
type troupe struct {
	name    string
	parties int
	members []*coretest.Process
	dead    []*coretest.Process
}

func (p *troupe) start(t *testing.T) *coretest.Process {
	t.Helper()
	return coretest.Child(t, "member", "ENDPOINT="+etcd.Endpoint(), "NAME="+p.name, "PARTIES="+strconv.Itoa(p.parties))
}

// TestProcessesMeet lets processes enter and leave together, and kills some of them
// at random, each of which another one replaces: nobody enters or leaves early, and
// nobody hangs.
func TestProcessesMeet(t *testing.T) { processesMeet(t, 5, 6, true) }

// TestProcessesMeetSoak is the same with 50 processes and 20 generations, and the
// killed are only gone when their leases have run out.
func TestProcessesMeetSoak(t *testing.T) {
	if os.Getenv("CONCLAVE_SOAK") != "1" {
		t.Skip("50 processes: set CONCLAVE_SOAK=1")
	}
	processesMeet(t, 50, 20, false)
}

func processesMeet(t *testing.T, parties, generations int, expire bool) {
	p := &troupe{name: etcd.Prefix(t), parties: parties}
	events := etcd.Record(t, prefixOf(p.name)+"double/")
	for range parties {
		p.members = append(p.members, p.start(t))
	}
	for g := int64(1); g <= int64(generations); g++ {
		p.await(t, events, g)
		if rand.IntN(4) > 0 {
			p.killOne(t, expire)
		}
	}
	for _, m := range p.members {
		m.Kill()
	}
	t.Logf("%d processes, %d generations, %d killed", parties, generations, len(p.dead))
	p.check(t, events.Events())
}

// await waits until some members of a generation wait for the others.
func (p *troupe) await(t *testing.T, events *coretest.Recorder, g int64) {
	t.Helper()
	some := 1 + rand.IntN(p.parties-1)
	part := fmt.Sprintf("double/in/%d/", g)
	for deadline := time.Now().Add(turn); ; {
		came := 0
		for _, ev := range events.Events() {
			if strings.Contains(string(ev.Kv.Key), part) && ev.Type == clientv3.EventTypePut {
				came++
			}
		}
		if came >= some {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d come to generation %d", came, some, g)
		}
	}
}

// killOne kills a member, wherever it is, and lets another one take its part.
func (p *troupe) killOne(t *testing.T, expire bool) {
	t.Helper()
	i := rand.IntN(len(p.members))
	m := p.members[i]
	lease, err := strconv.ParseInt(strings.TrimSpace(m.ExpectLine("ready")), 10, 64)
	noError(t, err)
	m.Kill()
	p.dead, p.members[i] = append(p.dead, m), p.start(t)
	if expire {
		coretest.ExpireLease(t, etcd.Client(t), clientv3.LeaseID(lease))
	}
}

// A generation is what etcd saw of a generation.
type generation struct {
	ready, over int64 // the revisions
	standing    map[int64]bool
}

// check compares what etcd saw with what the members said: a generation becomes
// ready with n members, nobody entered before it was ready, or left before it was
// over.
func (p *troupe) check(t *testing.T, events []*clientv3.Event) {
	t.Helper()
	seen := p.replay(t, events)
	entered := make(map[int64]int)
	for _, m := range append(p.dead, p.members...) {
		for _, line := range m.Output() {
			var g, ticket, rev int64
			what, rest, _ := strings.Cut(line, " ")
			if n, _ := fmt.Sscan(rest, &g, &ticket, &rev); n < 3 {
				if what == "failed" {
					t.Error(line)
				}
				continue
			}
			at := seen[g]
			switch {
			case at == nil || what == "entered" && rev < at.ready || what == "left" && (at.over == 0 || rev < at.over):
				t.Errorf("%q, of %+v", line, at)
			case !at.standing[ticket]:
				t.Errorf("%q: no member of the generation", line)
			case what == "entered":
				entered[g]++
			}
		}
	}
	for g, n := range entered {
		if n > p.parties {
			t.Errorf("%d entered generation %d", n, g)
		}
	}
	t.Logf("%d generations became ready", len(seen))
}

// replay goes through the events: n members stand when a generation becomes ready,
// or n minus those whose leases ended between the read of them and the mark, and
// none when the next one begins.
func (p *troupe) replay(t *testing.T, events []*clientv3.Event) map[int64]*generation {
	t.Helper()
	seen := make(map[int64]*generation)
	standing := make(map[string]int64)
	now := int64(0)
	for _, ev := range events {
		key, value := string(ev.Kv.Key), string(ev.Kv.Value)
		switch {
		case strings.Contains(key, "/in/") && ev.Type == clientv3.EventTypePut:
			standing[key] = ev.Kv.ModRevision
		case strings.Contains(key, "/in/"):
			delete(standing, key)
		case strings.HasSuffix(key, "/at") && strings.Contains(value, `"phase":"inside"`):
			now++
			seen[now] = &generation{ready: ev.Kv.ModRevision, standing: make(map[int64]bool)}
			for _, rev := range standing {
				seen[now].standing[rev] = true
			}
			if len(standing) < p.parties-len(p.dead) {
				t.Errorf("generation %d is ready with %d of %d", now, len(standing), p.parties)
			}
		case strings.HasSuffix(key, "/at") && now > 0 && strings.Contains(value, `"phase":"gathering"`):
			seen[now].over = ev.Kv.ModRevision
			if len(standing) > 0 {
				t.Errorf("the next generation begins at revision %d, and %d stand", ev.Kv.ModRevision, len(standing))
			}
		}
	}
	return seen
}
