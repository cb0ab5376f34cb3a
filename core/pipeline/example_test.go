package pipeline_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	lockv1 "github.com/conclavehq/conclave/api/conclave/lock/v1"
	"github.com/conclavehq/conclave/core/pipeline"
	"github.com/conclavehq/conclave/internal/router"
)

// A program that asks for many locks at once lets its calls share a stream.
func Example() {
	address, stop := exampleHost()
	defer stop()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// snippet:pipeline
	piped := pipeline.New(conn) // a *grpc.ClientConn
	defer piped.Close()
	locks := lockv1.NewLockServiceClient(piped)
	// end
	var all sync.WaitGroup
	var answers atomic.Int64
	for i := range 1000 {
		all.Go(func() {
			why, err := locks.Why(context.Background(), &lockv1.WhyRequest{Name: fmt.Sprint("shard-", i)})
			if err == nil && len(why.GetHolders()) == 0 {
				answers.Add(1)
			}
		})
	}
	all.Wait()
	fmt.Println(answers.Load(), "locks are free")
	// Output: 1000 locks are free
}

// exampleHost stands for a host that runs already.
func exampleHost() (address string, stop func()) {
	r, err := router.New(router.Config{})
	if err != nil {
		log.Fatal(err)
	}
	g := r.Registrar("host", router.AllowReserved())
	lockv1.RegisterLockServiceServer(g, &locks{})
	g.Pipeline()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err := errors.Join(err, g.Publish()); err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(r.ServerOptions()...)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	return "passthrough:///" + l.Addr().String(), func() {
		server.Stop()
		serving.Wait()
		_ = r.Close(context.Background())
	}
}
