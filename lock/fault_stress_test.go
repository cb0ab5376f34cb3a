package lock_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

const (
	stressTime     = 6 * time.Second
	stressSessions = 4
	stressWorkers  = 16
	stressLimit    = 3
)

// A stress is a few names that workers of several sessions lock in all modes,
// while requests are lost and delayed, leases end, and an operator deletes keys
// and takes locks away.
type stress struct {
	t    *testing.T
	name string

	mu       sync.Mutex
	sessions [stressSessions]*stressSession
	all      []*stressSession
	owned    map[string]int
}

type stressSession struct {
	*core.Session
	faults *coretest.Faults
	late   []*coretest.Late
}

// TestStress searches for what the single faults do not reach: it fails when
// two owners exclude each other and both own, when permits exceed the limit,
// when a token does not grow, when somebody waits for ever, and when a key is
// left behind.
func TestStress(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := &stress{t: t, name: etcd.Prefix(t), owned: map[string]int{}}
	for i := range s.sessions {
		s.open(i)
	}
	ctx, stop := context.WithTimeout(context.Background(), stressTime)
	defer stop()
	var workers, chaos sync.WaitGroup
	for i := range stressWorkers {
		workers.Go(func() { s.work(ctx, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	chaos.Go(func() { s.disturb(ctx, rand.New(rand.NewPCG(seed, stressWorkers))) })
	chaos.Wait()
	s.settle()
	workers.Wait()
	s.settle()
	t.Logf("owned: %v", s.owned)
	s.verify()
}

func (s *stress) open(i int) *stressSession {
	f := coretest.NewFaults()
	// The safety net, a look once per TTL, is beyond the test's patience.
	made, err := core.NewSession(within(s.t), etcd.Client(s.t, f.DialOptions()...), patient())
	if err != nil {
		s.t.Error(err)
		return nil
	}
	s.t.Cleanup(func() { _ = made.Close() })
	n := &stressSession{Session: made, faults: f}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[i] = n
	s.all = append(s.all, n)
	return n
}

// session returns a session that has not ended, as far as it knows.
func (s *stress) session(r *rand.Rand) *stressSession {
	i := r.IntN(stressSessions)
	s.mu.Lock()
	n := s.sessions[i]
	s.mu.Unlock()
	if n.Context().Err() != nil {
		return s.open(i)
	}
	return n
}

// stressKinds are what the workers acquire: the end of the name, and how.
var stressKinds = []struct {
	kind string
	end  string
}{{"mutex", "-a"}, {"mutex", "-b"}, {"write", "-a"}, {"read", "-a"}, {"read", "-a"}, {"read", "-b"}, {"multi", ""}, {"multi", ""},
	{"permit", "-c"}, {"permit", "-c"}, {"permits", "-c"}}

func (s *stress) acquirer(r *rand.Rand, n *stressSession, kindName, end string, try bool) acquirer {
	name, opts := s.name+end, []lock.Option{lock.WithPriority(r.IntN(3) / 2)}
	if r.IntN(3) == 0 {
		opts = append(opts, lock.WithDeferredRelease())
	}
	if kindName == "mutex" && r.IntN(3) == 0 {
		opts = append(opts, lock.WithLocalHandover(4, time.Second))
	}
	switch {
	case kindName == "permit" || kindName == "permits":
		m := lock.NewSemaphore(n.Session, name, stressLimit, opts...)
		count := 1 + r.IntN(stressLimit)
		if try {
			return ofPermit(count, m.TryAcquire)
		}
		return ofPermit(count, m.Acquire)
	case kindName == "read" && try:
		return ofHeld(lock.NewRWMutex(n.Session, name, opts...).TryRLock)
	case kindName == "read":
		return ofHeld(lock.NewRWMutex(n.Session, name, opts...).RLock)
	case kindName == "multi" && try:
		return ofHeld(lock.NewMulti(n.Session, namesOf(name), opts...).TryLock)
	case kindName == "multi":
		return ofHeld(lock.NewMulti(n.Session, namesOf(name), opts...).Lock)
	case try:
		return ofHeld(lock.NewMutex(n.Session, name, opts...).TryLock)
	default:
		return ofHeld(lock.NewMutex(n.Session, name, opts...).Lock)
	}
}

func (s *stress) work(ctx context.Context, r *rand.Rand) {
	for ctx.Err() == nil {
		n := s.session(r)
		if n == nil {
			return
		}
		what := stressKinds[r.IntN(len(stressKinds))]
		acquireCtx, cancel := context.WithTimeout(context.Background(), patience)
		if r.IntN(3) == 0 {
			acquireCtx, cancel = context.WithTimeout(context.Background(), time.Duration(r.IntN(300))*time.Millisecond)
		}
		start := time.Now()
		try := r.IntN(4) == 0
		o, err := s.acquirer(r, n, what.kind, what.end, try)(acquireCtx)
		cancel()
		if err != nil {
			if time.Since(start) >= patience {
				s.t.Errorf("%s%s of %x: waited for ever: %v; %q", what.kind, what.end, n.Lease(), err, left(s.t, s.name))
			}
			s.expected(what.kind, err, try)
			continue
		}
		s.hold(r, what.kind, what.end, o)
	}
}

// expected fails the test for an error that an acquisition should not have. A
// try, and a forced release, may end because etcd did not answer a read.
func (s *stress) expected(what string, err error, once bool) {
	if once && status.Code(errors.Unwrap(err)) == codes.Unavailable {
		return
	}
	for _, e := range []error{lock.ErrLocked, context.DeadlineExceeded, core.ErrSessionExpired, core.ErrKeyDeleted, core.ErrUnknownOutcome, core.ErrRevoked} {
		if errors.Is(err, e) {
			return
		}
	}
	s.t.Errorf("%s: %v", what, err)
}

// hold checks an ownership in transactions that commit only for the owner.
func (s *stress) hold(r *rand.Rand, what, end string, o *ownership) {
	s.mu.Lock()
	s.owned[what]++
	s.mu.Unlock()
	ends := []string{end}
	if what == "multi" {
		ends = []string{"-a", "-b"}
	}
	for range r.IntN(3) {
		for _, e := range ends {
			s.inspect(what, s.name+e, o)
		}
	}
	if what == "write" && r.IntN(2) == 0 {
		s.downgrade(s.name+end, o)
	}
	if err := o.release(); err != nil && !errors.Is(err, lock.ErrLost) {
		s.t.Errorf("%s: release: %v", what, err)
	}
	if o.Context().Err() == nil {
		s.t.Errorf("%s: released, but the context lives", what)
	}
}

func (s *stress) downgrade(name string, o *ownership) {
	h, err := o.Ownership.(*lock.Held).Downgrade(within(s.t))
	if err != nil {
		s.expected("downgrade", err, true)
		return
	}
	reader := &ownership{h, h.Unlock, h.Commit}
	s.inspect("read", name, reader)
	if err := reader.release(); err != nil && !errors.Is(err, lock.ErrLost) {
		s.t.Errorf("downgraded: release: %v", err)
	}
}

func (s *stress) inspect(what, name string, o *ownership) {
	key, token := keyOf(name)+"/", int64(o.Token())
	mark, other := "stress/"+name+"/exclusive", "stress/"+name+"/shared"
	if what == "read" || what == "permit" || what == "permits" {
		mark, other = other, mark
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	resp, err := o.commit(ctx, clientv3.OpGet(key+"grant"), clientv3.OpGet(key+"read/", clientv3.WithPrefix()),
		clientv3.OpGet(key+"hold/", clientv3.WithPrefix()), clientv3.OpGet(mark), clientv3.OpGet(other),
		clientv3.OpPut(mark, strconv.FormatInt(token, 10)))
	if err != nil {
		if !errors.Is(err, lock.ErrLost) && !errors.Is(err, core.ErrUnknownOutcome) && !errors.Is(err, context.DeadlineExceeded) {
			s.t.Errorf("%s %s: %v", what, name, err)
		}
		return
	}
	get := func(i int) []*mvccpb.KeyValue { return resp.Responses[i].GetResponseRange().Kvs }
	grants, reads, holds := len(get(0)), len(get(1)), permitsIn(s.t, get(2))
	switch what {
	case "read":
		if grants > 0 || holds > 0 {
			s.t.Errorf("a reader of %s beside %d writers and %d permits", name, grants, holds)
		}
	case "permit", "permits":
		if grants > 0 || reads > 0 || holds > stressLimit {
			s.t.Errorf("%d of %d permits of %s beside %d writers and %d readers", holds, stressLimit, name, grants, reads)
		}
	default:
		if reads > 0 || holds > 0 {
			s.t.Errorf("a writer of %s beside %d readers and %d permits", name, reads, holds)
		}
		if last := tokenIn(get(3)); last > token {
			s.t.Errorf("%s: token %d of a writer after %d of another", name, token, last)
		}
	}
	if last := tokenIn(get(4)); last >= token {
		s.t.Errorf("%s %s: token %d after %d", what, name, token, last)
	}
}

func permitsIn(t *testing.T, kvs []*mvccpb.KeyValue) int {
	sum := 0
	for _, kv := range kvs {
		var r struct{ Permits int }
		if err := json.Unmarshal(kv.Value, &r); err != nil {
			t.Errorf("%s: %v", kv.Key, err)
		}
		sum += r.Permits
	}
	return sum
}

func tokenIn(kvs []*mvccpb.KeyValue) int64 {
	if len(kvs) == 0 {
		return 0
	}
	token, _ := strconv.ParseInt(string(kvs[0].Value), 10, 64)
	return token
}

// disturb is everything that goes wrong.
func (s *stress) disturb(ctx context.Context, r *rand.Rand) {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		n := s.sessions[r.IntN(stressSessions)]
		s.mu.Unlock()
		switch p := r.IntN(100); {
		case p < 30:
			n.faults.LoseReply(coretest.Method("Txn"), coretest.Times(1+r.IntN(2)))
		case p < 50:
			n.faults.LoseRequest(coretest.Method("Txn"))
		case p < 75:
			s.delay(n)
		case p < 90:
			s.deliver(ctx, r)
		case p < 93:
			coretest.ExpireLease(s.t, etcd.Client(s.t), n.Lease())
		case p < 96:
			s.force(ctx, r)
		default:
			s.delete(r)
		}
	}
}

func (s *stress) delay(n *stressSession) {
	l := n.faults.Late(coretest.All(coretest.Method("Txn"), coretest.Puts("/conclave/")))
	s.mu.Lock()
	n.late = append(n.late, l)
	s.mu.Unlock()
}

// deliver lets one request arrive that was held back.
func (s *stress) deliver(ctx context.Context, r *rand.Rand) {
	s.mu.Lock()
	n := s.all[r.IntN(len(s.all))]
	var l *coretest.Late
	if len(n.late) > 0 {
		l = n.late[r.IntN(len(n.late))]
	}
	s.mu.Unlock()
	if l != nil {
		_, _ = l.Deliver(ctx) // it may be refused, and there may be none
	}
}

func (s *stress) force(ctx context.Context, r *rand.Rand) {
	m := lock.NewMutex(s.session(r).Session, s.name+[]string{"-a", "-b", "-c"}[r.IntN(3)])
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if _, err := m.ForceRelease(ctx, "stress"); err != nil && ctx.Err() == nil {
		s.expected("force", err, true)
	}
}

// delete removes a ticket or a grant by hand. A limit or a set's record without
// its owner is not something that an operator has reason to delete.
func (s *stress) delete(r *rand.Rand) {
	var keys []string
	for _, key := range left(s.t, s.name) {
		if !strings.HasSuffix(key, "/limit") && !strings.Contains(key, "/set/") {
			keys = append(keys, key)
		}
	}
	if len(keys) > 0 {
		remove(s.t, keys[r.IntN(len(keys))])
	}
}

// settle ends the faults; what was held back arrives.
func (s *stress) settle() {
	s.mu.Lock()
	all := s.all
	s.mu.Unlock()
	for _, n := range all {
		n.faults.Clear()
		for _, l := range n.late {
			for {
				if _, err := l.Deliver(within(s.t)); errors.Is(err, coretest.ErrNothingHeld) {
					break
				}
			}
		}
	}
}

func (s *stress) verify() {
	// A limit stays when the last of its owners died; whoever is next takes it.
	eventually(s.t, "nothing left but a limit", func() bool {
		return !slices.ContainsFunc(left(s.t, s.name), func(key string) bool { return !strings.HasSuffix(key, "-c/limit") })
	})
	released(s.t, acquired(s.t, kindOf("mutex").lock(session(s.t), s.name+"-c")))
	cleanedUp(s.t, s.name)
	for _, what := range []string{"mutex", "read", "permits", "multi"} {
		released(s.t, acquired(s.t, kindOf(what).lock(session(s.t), s.name+"-a")))
	}
}
