package main

import (
	"context"
	"net"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"

	cronv1 "example.com/conclave-cron/proto/example/cron/v1"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

// newHost serves the recipe on a client of its own.
func newHost(t *testing.T, c *clientv3.Client) cronv1.CronServiceClient {
	t.Helper()
	env := recipe.NewEnv("cron", c, nil, nil)
	server := grpc.NewServer()
	instance, err := Recipe{}.Open(within(t), env, server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := instance.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
		env.Close()
	})
	return cronv1.NewCronServiceClient(conn)
}

// session is a worker's session: what a host adds to its calls.
type session struct {
	lease clientv3.LeaseID
	ns    string
	owner string
}

func newSession(t *testing.T, ns, owner string) session {
	t.Helper()
	lease, err := etcd.Client(t).Grant(within(t), 600)
	if err != nil {
		t.Fatal(err)
	}
	return session{lease.ID, ns, owner}
}

func (s session) context(ctx context.Context) context.Context {
	c := recipe.Caller{Session: s.owner, Lease: s.lease, TTL: 10 * time.Minute, Owner: s.owner, Namespace: s.ns}
	return metadata.NewOutgoingContext(ctx, c.Metadata())
}

// worker is a call of Work.
type workerCall struct {
	session

	t      *testing.T
	stream grpc.ServerStreamingClient[cronv1.WorkResponse]
	end    context.CancelFunc
	host   cronv1.CronServiceClient
}

func work(t *testing.T, host cronv1.CronServiceClient, s session, names ...string) *workerCall {
	t.Helper()
	ctx, cancel := context.WithTimeout(s.context(t.Context()), time.Minute)
	t.Cleanup(cancel)
	stream, err := host.Work(ctx, &cronv1.WorkRequest{Namespace: s.ns, SessionId: s.owner, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	return &workerCall{session: s, t: t, stream: stream, end: cancel, host: host}
}

// next is the next run.
func (w *workerCall) next() *cronv1.WorkResponse {
	w.t.Helper()
	r, err := w.stream.Recv()
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *workerCall) finish(r *cronv1.WorkResponse, problem string) (*cronv1.FinishResponse, error) {
	return w.host.Finish(w.context(within(w.t)), &cronv1.FinishRequest{
		Namespace: w.ns, SessionId: w.owner, Name: r.GetName(), Id: r.GetId(), Token: r.GetToken(), Error: problem,
	})
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// namespaceOf is the test's own.
func namespaceOf(t *testing.T) string { return etcd.Prefix(t) }

// newJob sets a job that never comes due during a test.
func newJob(t *testing.T, host cronv1.CronServiceClient, ns string, change func(*cronv1.Job)) string {
	t.Helper()
	j := &cronv1.Job{Name: "team/job", Schedule: "0 0 29 2 *", Payload: []byte("hello")}
	if change != nil {
		change(j)
	}
	if _, err := host.SetJob(within(t), &cronv1.SetJobRequest{Namespace: ns, Job: j}); err != nil {
		t.Fatal(err)
	}
	return j.GetName()
}

func runNow(t *testing.T, host cronv1.CronServiceClient, ns, name, id string) {
	t.Helper()
	for range 2 {
		if _, err := host.RunNow(within(t), &cronv1.RunNowRequest{Namespace: ns, Name: name, Id: id}); err != nil {
			t.Fatal(err)
		}
	}
}

func history(t *testing.T, host cronv1.CronServiceClient, ns, name string) []*cronv1.PastRun {
	t.Helper()
	h, err := host.History(within(t), &cronv1.HistoryRequest{Namespace: ns, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return h.GetRuns()
}
