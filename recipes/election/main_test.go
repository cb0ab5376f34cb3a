package election_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	electionv1 "github.com/conclavehq/conclave/api/conclave/election/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/election"
	"github.com/conclavehq/conclave/internal/scope"
	electionrecipe "github.com/conclavehq/conclave/recipes/election"
	"github.com/conclavehq/conclave/recipes/internal/servicetest"
	"github.com/conclavehq/conclave/recipes/recipetest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) {
	recipetest.Dispatch(electionrecipe.Recipe{})
	flag.Parse()
	if flag.Lookup("test.bench").Value.String() != "" {
		os.Exit(m.Run()) // etcd's own election service leaves goroutines behind
	}
	coretest.Main(m, &etcd)
}

func testContext(tb testing.TB) context.Context {
	tb.Helper()
	return servicetest.Context(tb)
}

// A host runs the recipe.
type host struct {
	electionv1.ElectionServiceClient
	*servicetest.Host
}

func startHost(tb testing.TB, c *clientv3.Client, cfg *electionv1.Config) *host {
	tb.Helper()
	return startHostOn(tb, scope.FromClient(c), cfg)
}

func startHostOn(tb testing.TB, back scope.Backend, cfg *electionv1.Config) *host {
	tb.Helper()
	h := servicetest.Start(tb, electionrecipe.Recipe{}, back, cfg)
	return &host{electionv1.NewElectionServiceClient(h.Conn), h}
}

// A caller is somebody with a session of a host.
type caller struct {
	id    string
	lease clientv3.LeaseID
	ctx   context.Context // of the caller's calls
	s     *core.Session   // whoever keeps the lease alive
}

// open opens a session as a host's SessionService would.
func open(tb testing.TB, owner, namespace string) *caller {
	tb.Helper()
	return openOn(tb, etcd, owner, namespace)
}

func openOn(tb testing.TB, e *coretest.Etcd, owner, namespace string) *caller {
	tb.Helper()
	return callerOf(tb, sessionOn(tb, e, owner, namespace))
}

func callerOf(tb testing.TB, s *core.Session) *caller {
	tb.Helper()
	id, ctx := servicetest.Calling(tb, s)
	return &caller{id: id, lease: s.Lease(), s: s, ctx: ctx}
}

// session opens a session of a user of the library.
func session(tb testing.TB, owner, namespace string, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	return sessionOn(tb, etcd, owner, namespace, opts...)
}

func sessionOn(tb testing.TB, e *coretest.Etcd, owner, namespace string, opts ...core.SessionOption) *core.Session {
	tb.Helper()
	s, err := core.NewSession(testContext(tb), e.Client(tb), append(opts, core.WithOwner(owner), core.WithNamespace(namespace))...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = s.Close() })
	return s
}

// leads campaigns with the library.
func leads(tb testing.TB, s *core.Session, name string, opts ...election.Option) *election.Term {
	tb.Helper()
	term, err := election.New(s, name, opts...).Campaign(testContext(tb), s.Owner())
	if err != nil {
		tb.Fatal(err)
	}
	return term
}

// stands campaigns with the library in the background.
func stands(tb testing.TB, s *core.Session, name string, opts ...election.Option) <-chan *election.Term {
	tb.Helper()
	ctx, won := testContext(tb), make(chan *election.Term, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if term, err := election.New(s, name, opts...).Campaign(ctx, s.Owner()); err == nil {
			won <- term
		}
	}()
	tb.Cleanup(func() {
		_ = s.Close() // which ends a campaign that nobody waits for
		<-done
	})
	return won
}

func resign(tb testing.TB, term *election.Term) {
	tb.Helper()
	if err := term.Resign(); err != nil {
		tb.Fatal(err)
	}
}

// campaign leads for a caller.
func (h *host) campaign(tb testing.TB, c *caller, name, value string) int64 {
	tb.Helper()
	a := <-h.campaigning(c.ctx, c, name, value)
	if a.err != nil || a.token <= 0 {
		tb.Fatalf("Campaign answers %v", a)
	}
	return a.token
}

type answer struct {
	token int64
	err   error
}

// campaigning is campaign in the background.
func (h *host) campaigning(ctx context.Context, c *caller, name, value string) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		resp, err := h.Campaign(ctx, &electionv1.CampaignRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name, Value: value})
		answers <- answer{resp.GetToken(), err}
	}()
	return answers
}

// try campaigns once.
func (h *host) try(c *caller, name string) (int64, error) {
	resp, err := h.Campaign(c.ctx, &electionv1.CampaignRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name, Wait: durationpb.New(0)})
	return resp.GetToken(), err
}

func (h *host) resign(c *caller, name string, token int64) error {
	_, err := h.Resign(c.ctx, &electionv1.ResignRequest{SessionId: c.id, Namespace: c.s.Namespace(), Name: name, Token: token})
	return err
}

func contenders(tb testing.TB, h *host, ns, name string) *electionv1.ContendersResponse {
	tb.Helper()
	resp, err := h.Contenders(testContext(tb), &electionv1.ContendersRequest{Namespace: ns, Name: name})
	if err != nil {
		tb.Fatal(err)
	}
	return resp
}

// inLine waits until n stand for election and do not lead.
func (h *host) inLine(tb testing.TB, ns, name string, n int) {
	tb.Helper()
	eventually(tb, fmt.Sprintf("%d stand", n), func() bool { return len(contenders(tb, h, ns, name).GetCandidates()) == n })
}

// want checks an error's code and reason.
func want(tb testing.TB, err error, code codes.Code, reason string) {
	tb.Helper()
	servicetest.Want(tb, err, code, reason)
}

// eventually waits until something is so.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	servicetest.Eventually(tb, what, ok)
}

// namespace returns a namespace of the test's own.
func namespace(tb testing.TB) string {
	tb.Helper()
	p := []byte(etcd.Prefix(tb))
	for i := range p {
		if p[i] == '/' {
			p[i] = '-'
		}
	}
	return string(p)
}
