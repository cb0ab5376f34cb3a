package discovery_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/discovery"
)

func open() (*clientv3.Client, *core.Session) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	s, err := core.NewSession(context.Background(), c)
	if err != nil {
		panic(err)
	}
	return c, s
}

// A program registers itself, and another one finds it.
func Example() {
	client, session := open()
	defer client.Close()
	defer session.Close() // deregisters
	ctx := context.Background()

	registrar := discovery.NewRegistrar(session)
	_, err := registrar.Register(ctx, discovery.Instance{Service: "example/web", ID: "web-1", Addr: "10.0.0.1:8080"})
	if err != nil {
		panic(err)
	}

	resolver := discovery.NewResolver(client)
	defer resolver.Close()
	snapshot, err := resolver.Resolve(ctx, "example/web") // from memory, after the first time
	if err != nil {
		panic(err)
	}
	instance, err := snapshot.Pick()
	if err != nil {
		panic(err)
	}
	fmt.Println(instance.ID, "at", instance.Addr)
	// Output: web-1 at 10.0.0.1:8080
}

// A program that is to stop says so before it does: readers go elsewhere while it
// ends what it has begun.
func ExampleRegistration_Drain() {
	client, session := open()
	defer client.Close()
	defer session.Close()
	ctx := context.Background()

	registrar := discovery.NewRegistrar(session, discovery.WithDrainWait(0)) // by default it waits for 2 s
	registration, err := registrar.Register(ctx, discovery.Instance{Service: "example/drain", Addr: "10.0.0.1:8080"})
	if err != nil {
		panic(err)
	}
	if err := registration.Drain(ctx); err != nil {
		panic(err)
	}
	snapshot, err := discovery.Lookup(ctx, client, "default", "example/drain")
	if err != nil {
		panic(err)
	}
	fmt.Println(len(snapshot.Instances), "to send to,", len(snapshot.Others), "draining")
	// … end what is under way …
	if err := registration.Deregister(); err != nil {
		panic(err)
	}
	// Output: 0 to send to, 1 draining
}

// A loop sees the present state, and then every change.
func ExampleResolver_Watch() {
	client, session := open()
	defer client.Close()
	defer session.Close()
	ctx := context.Background()
	registrar := discovery.NewRegistrar(session)
	for _, id := range []string{"a", "b"} {
		if _, err := registrar.Register(ctx, discovery.Instance{Service: "example/watch", ID: id, Addr: "10.0.0.1:80"}); err != nil {
			panic(err)
		}
	}
	resolver := discovery.NewResolver(client)
	defer resolver.Close()
	for snapshot, err := range resolver.Watch(ctx, "example/watch") {
		if err != nil {
			panic(err)
		}
		fmt.Println(len(snapshot.Instances), "instances, stale:", snapshot.Stale)
		break
	}
	// Output: 2 instances, stale: false
}

// A client that reports how its requests end is spared those that fail.
func ExampleSnapshot_Report() {
	client, session := open()
	defer client.Close()
	defer session.Close()
	ctx := context.Background()
	registrar := discovery.NewRegistrar(session)
	for _, id := range []string{"good", "bad"} {
		if _, err := registrar.Register(ctx, discovery.Instance{Service: "example/report", ID: id, Addr: "10.0.0.1:80"}); err != nil {
			panic(err)
		}
	}
	resolver := discovery.NewResolver(client)
	defer resolver.Close()
	snapshot, err := resolver.Resolve(ctx, "example/report")
	if err != nil {
		panic(err)
	}
	for range 5 {
		snapshot.Report("bad", errors.New("connection refused"))
	}
	for range 3 {
		instance, err := snapshot.Pick()
		if err != nil {
			panic(err)
		}
		fmt.Println(instance.ID)
	}
	// Output:
	// good
	// good
	// good
}

// An instance that hosts check takes requests once one of them has seen that it is
// well. Here the program carries out the check itself; hosts always do.
func ExampleRunChecks() {
	client, session := open()
	defer client.Close()
	defer session.Close()
	ctx, stop := context.WithCancel(context.Background())

	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})) // answers 200
	defer server.Close()
	registrar := discovery.NewRegistrar(session)
	_, err := registrar.Register(ctx, discovery.Instance{
		Service: "example/checked", ID: "web-1", Addr: server.Listener.Addr().String(),
		Checks: []discovery.HostCheck{{URL: "http:///health"}}, // at the instance's own address
	})
	if err != nil {
		panic(err)
	}
	var checks sync.WaitGroup
	checks.Go(func() { _ = discovery.RunChecks(ctx, client) }) // until ctx ends

	resolver := discovery.NewResolver(client)
	defer resolver.Close()
	for snapshot, err := range resolver.Watch(ctx, "example/checked") {
		if err != nil {
			panic(err)
		}
		if len(snapshot.Instances) > 0 {
			fmt.Println(snapshot.Instances[0].ID, "is", snapshot.Instances[0].State)
			break
		}
	}
	stop()
	checks.Wait()
	// Output: web-1 is passing
}
