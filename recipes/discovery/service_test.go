package discovery_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	discoveryv1 "github.com/conclavehq/conclave/api/conclave/discovery/v1"
	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/core/recipe"
	"github.com/conclavehq/conclave/discovery"
	discoveryrecipe "github.com/conclavehq/conclave/recipes/discovery"
)

func TestRegisterResolveDeregister(t *testing.T) {
	h, other := startHost(t, etcd.Client(t)), startHost(t, etcd.Client(t))
	service := etcd.Prefix(t)
	ada, _ := caller(t)
	req := &discoveryv1.RegisterRequest{Name: service, Id: "a/1", Addr: "h:80", Zone: "z", Version: "2", Weight: 7, Tags: []string{"x"},
		Metadata: map[string]string{"k": "v"}}
	reg := must[*discoveryv1.RegisterResponse](t)(h.Register(ada, req))
	got := other.resolve(t, service)
	if len(got.GetInstances()) != 1 || got.GetRevision() == 0 || got.GetStale() || got.GetName() != service {
		t.Fatalf("resolved: %v", got)
	}
	i := got.GetInstances()[0]
	if i.GetService() != service || i.GetId() != "a/1" || i.GetAddr() != "h:80" || i.GetZone() != "z" || i.GetVersion() != "2" || i.GetWeight() != 7 ||
		i.GetTags()[0] != "x" || i.GetMetadata()["k"] != "v" || i.GetState() != "passing" || i.GetToken() != reg.GetToken() || i.GetOwner() != "ada" ||
		i.GetSince() == nil {
		t.Errorf("instance: %v", i)
	}
	req.Addr = "h:81"
	if again := must[*discoveryv1.RegisterResponse](t)(other.Register(ada, req)); again.GetToken() != reg.GetToken() {
		t.Errorf("token %d, then %d", reg.GetToken(), again.GetToken())
	}
	set := func(token int64, state string) error {
		_, err := h.SetState(ada, &discoveryv1.SetStateRequest{Name: service, Id: "a/1", Token: token, State: state})
		return err
	}
	want(t, set(reg.GetToken()+1, "draining"), codes.FailedPrecondition, "stale_token", "")
	want(t, set(0, "odd"), codes.InvalidArgument, "invalid_state", "draining")
	if err := set(reg.GetToken(), "draining"); err != nil {
		t.Fatal(err)
	}
	if got := h.resolve(t, service); len(got.GetInstances()) != 0 || got.GetOthers()[0].GetState() != "draining" || got.GetOthers()[0].GetAddr() != "h:81" {
		t.Errorf("draining: %v", got)
	}
	leave := &discoveryv1.DeregisterRequest{Name: service, Id: "a/1", Token: reg.GetToken()}
	must[*discoveryv1.DeregisterResponse](t)(other.Deregister(ada, leave))
	if got := h.resolve(t, service); len(got.GetInstances())+len(got.GetOthers()) != 0 {
		t.Errorf("deregistered: %v", got)
	}
	_, err := h.Deregister(ada, leave)
	want(t, err, codes.FailedPrecondition, "not_owner", "")
}

func TestSessions(t *testing.T) {
	h, service := startHost(t, etcd.Client(t)), etcd.Prefix(t)
	ada, lease := caller(t)
	grace, _ := caller(t)
	req := &discoveryv1.RegisterRequest{Name: service, Addr: "h:80"}
	first := must[*discoveryv1.RegisterResponse](t)(h.Register(ada, req))
	if first.GetId() != "h:80" {
		t.Errorf("id %q", first.GetId())
	}
	second := must[*discoveryv1.RegisterResponse](t)(h.Register(grace, req))
	if second.GetToken() <= first.GetToken() {
		t.Errorf("token %d after %d", second.GetToken(), first.GetToken())
	}
	_, err := h.Deregister(ada, &discoveryv1.DeregisterRequest{Name: service, Id: "h:80"})
	want(t, err, codes.FailedPrecondition, "not_owner", "")
	coretest.ExpireLease(t, etcd.Client(t), lease)
	if got := h.resolve(t, service); len(got.GetInstances()) != 1 {
		t.Errorf("after the end of the first one's session: %v", got)
	}
	_, err = h.Register(ada, req)
	want(t, err, codes.FailedPrecondition, "session_expired", "")
	_, err = h.Register(within(t), req)
	want(t, err, codes.InvalidArgument, "invalid_session_id", "")
}

func TestWatch(t *testing.T) {
	h, service := startHost(t, etcd.Client(t)), etcd.Prefix(t)
	stream := must[grpc.ServerStreamingClient[discoveryv1.WatchResponse]](t)(h.Watch(within(t), &discoveryv1.WatchRequest{Name: service}))
	next := func() *discoveryv1.WatchResponse { return must[*discoveryv1.WatchResponse](t)(stream.Recv()) }
	if m := next(); len(m.GetInstances()) != 0 || m.GetName() != service {
		t.Errorf("first: %v", m)
	}
	ada, lease := caller(t)
	must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: service, Addr: "h:80"}))
	if m := next(); len(m.GetInstances()) != 1 {
		t.Errorf("registered: %v", m)
	}
	coretest.ExpireLease(t, etcd.Client(t), lease)
	if m := next(); len(m.GetInstances()) != 0 {
		t.Errorf("expired: %v", m)
	}
	if err := h.Instance.Close(within(t)); err != nil {
		t.Error(err)
	}
	_, err := stream.Recv()
	want(t, err, codes.Unavailable, "recipe_restarting", "")
}

func TestListAndMark(t *testing.T) {
	h, prefix := startHost(t, etcd.Client(t)), etcd.Prefix(t)
	ada, _ := caller(t)
	for _, name := range []string{"c", "a", "b/1", "b/1"} {
		must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: prefix + name, Addr: "h:80"}))
	}
	must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: prefix + "c", Addr: "h:81"}))
	mark := func(id, state string) error {
		_, err := h.Mark(within(t), &discoveryv1.MarkRequest{Name: prefix + "c", Id: id, State: state, By: "ops"})
		return err
	}
	if err := mark("h:80", "maintenance"); err != nil {
		t.Fatal(err)
	}
	want(t, mark("nobody", "draining"), codes.NotFound, "not_found", "nobody")
	var got []string
	req := &discoveryv1.ListRequest{Prefix: prefix, PageSize: 2}
	for {
		resp := must[*discoveryv1.ListResponse](t)(h.List(within(t), req))
		for _, s := range resp.GetServices() {
			got = append(got, strings.TrimPrefix(s.GetName(), prefix))
			if s.GetName() == prefix+"c" && (s.GetInstances() != 2 || s.GetUsable() != 1) {
				t.Errorf("c: %v", s)
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if strings.Join(got, " ") != "a b/1 c" {
		t.Errorf("listed: %q", got)
	}
	if err := mark("h:80", ""); err != nil {
		t.Fatal(err)
	}
	if got := h.resolve(t, prefix+"c"); len(got.GetInstances()) != 2 {
		t.Errorf("given back: %v", got)
	}
}

func TestWhatIsInvalid(t *testing.T) {
	h := startHost(t, etcd.Client(t))
	ada, _ := caller(t)
	for reason, req := range map[string]*discoveryv1.RegisterRequest{
		"invalid_name":      {Name: "a//b", Addr: "h:80"},
		"invalid_addr":      {Name: "a", Addr: "h"},
		"invalid_id":        {Name: "a", Addr: "h:80", Id: ".."},
		"invalid_weight":    {Name: "a", Addr: "h:80", Weight: 70_000},
		"invalid_state":     {Name: "a", Addr: "h:80", State: "left"},
		"invalid_metadata":  {Name: "a", Addr: "h:80", Metadata: map[string]string{"": "x"}},
		"invalid_tags":      {Name: "a", Addr: "h:80", Tags: []string{strings.Repeat("x", 256)}},
		"invalid_namespace": {Name: "a", Addr: "h:80", Namespace: "other"},
	} {
		_, err := h.Register(ada, req)
		want(t, err, codes.InvalidArgument, reason, "")
	}
	_, err := h.List(within(t), &discoveryv1.ListRequest{PageToken: "!"})
	want(t, err, codes.InvalidArgument, "invalid_page_token", "")
	_, err = h.List(within(t), &discoveryv1.ListRequest{PageSize: -1})
	want(t, err, codes.InvalidArgument, "invalid_page_size", "")
	_, err = h.Resolve(within(t), &discoveryv1.ResolveRequest{Name: ""})
	want(t, err, codes.InvalidArgument, "invalid_name", "empty")
	if _, err := (discoveryrecipe.Recipe{}).Open(within(t), recipe.NewEnv("other", nil, nil, nil), nil); err == nil {
		t.Error("it runs under another name")
	}
}

func TestTheLibraryMeetsTheCallers(t *testing.T) {
	h, service := startHost(t, etcd.Client(t)), etcd.Prefix(t)
	s := must[*core.Session](t)(core.NewSession(within(t), etcd.Client(t)))
	defer s.Close()
	g := must[*discovery.Registration](t)(discovery.NewRegistrar(s).Register(within(t), discovery.Instance{Service: service, ID: "x", Addr: "h:80"}))
	ada, _ := caller(t)
	must[*discoveryv1.RegisterResponse](t)(h.Register(ada, &discoveryv1.RegisterRequest{Name: service, Id: "x", Addr: "h:81"}))
	select {
	case <-g.Context().Done():
	case <-time.After(patience):
		t.Fatal("the program's registration does not end")
	}
	if got := h.resolve(t, service); got.GetInstances()[0].GetAddr() != "h:81" {
		t.Errorf("resolved: %v", got)
	}
}

// Without etcd a host says so, and never that there is nothing.
func TestWithoutEtcd(t *testing.T) {
	l := etcd.Link(t)
	h := startHost(t, coretest.Dial(t, l.Endpoint()))
	l.Cut()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	_, err := h.Resolve(ctx, &discoveryv1.ResolveRequest{Name: "web"})
	if status.Code(err) != codes.Unavailable || recipe.Reason(err) != "no_quorum" {
		t.Errorf("resolve: %v", err)
	}
}
