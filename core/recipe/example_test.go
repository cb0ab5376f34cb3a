package recipe_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/conclavehq/conclave/core/recipe"
)

// Presence is a complete recipe: who is here? A caller is here for as long as
// its session lives.
type Presence struct{}

// Info describes the recipe.
func (Presence) Info() recipe.Info {
	return recipe.Info{Name: "presence", Version: "1.0.0", Summary: "Who is here"}
}

// Open starts an instance.
func (Presence) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	p := &presence{env: env}
	reg.RegisterService(presenceService(), p)
	return p, nil
}

// presence is an instance. It has no goroutine and keeps nothing in memory.
type presence struct{ env recipe.Env }

// Close has nothing to end: what callers announced goes with their sessions.
func (p *presence) Close(context.Context) error { return nil }

// Announce says that the caller is in a room, and returns how many are.
func (p *presence) Announce(ctx context.Context, room *wrapperspb.StringValue) (*wrapperspb.Int64Value, error) {
	session, err := recipe.Session(ctx, p.env)
	if err != nil {
		return nil, err
	}
	prefix, err := p.env.Key(session.Namespace(), room.GetValue())
	if err != nil {
		return nil, err
	}
	// The key is attached to the caller's lease. A repeated call writes it again.
	here := clientv3.OpPut(fmt.Sprintf("%s%x", prefix, session.Lease()), session.Owner(), clientv3.WithLease(session.Lease()))
	all := clientv3.OpGet(prefix, clientv3.WithPrefix(), clientv3.WithCountOnly())
	resp, err := p.env.Client.Txn(ctx).Then(here, all).Commit()
	if err != nil {
		return nil, recipe.Status(err)
	}
	p.env.Log.Debug("announced", "room", room.GetValue())
	return wrapperspb.Int64(resp.Responses[1].GetResponseRange().GetCount()), nil
}

// presenceService stands for what is generated from the recipe's .proto file.
func presenceService() *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: "example.presence.v1.Presence",
		HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{
			MethodName: "Announce",
			Handler: func(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				room := new(wrapperspb.StringValue)
				if err := decode(room); err != nil {
					return nil, err
				}
				return srv.(*presence).Announce(ctx, room)
			},
		}},
	}
}

// A recipe of one method, and what a host does with it: it opens the recipe,
// serves what it registered, and adds the caller's session to each call.
func Example() {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd.Endpoint()}, Logger: zap.NewNop()})
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	env := recipe.NewEnv("presence", client, nil, slog.New(slog.DiscardHandler))
	defer env.Close()

	server := grpc.NewServer()
	instance, err := Presence{}.Open(context.Background(), env, server)
	if err != nil {
		panic(err)
	}
	defer func() { _ = instance.Close(context.Background()) }()
	conn, stop := serve(server)
	defer stop()

	for _, owner := range []string{"ada", "grace", "ada"} {
		here := new(wrapperspb.Int64Value)
		err := conn.Invoke(as(client, owner), "/example.presence.v1.Presence/Announce", wrapperspb.String("lobby"), here)
		fmt.Println(owner, here.GetValue(), err)
	}
	err = conn.Invoke(as(client, "ada"), "/example.presence.v1.Presence/Announce", wrapperspb.String(""), new(wrapperspb.Int64Value))
	fmt.Println(recipe.Reason(err))
	// Output:
	// ada 1 <nil>
	// grace 2 <nil>
	// ada 3 <nil>
	// invalid_name
}

// as returns the context of a call of a new session, as a host would send it on.
func as(client *clientv3.Client, owner string) context.Context {
	lease, err := client.Grant(context.Background(), 60)
	if err != nil {
		panic(err)
	}
	who := recipe.Caller{Session: owner, Lease: lease.ID, TTL: time.Minute, Owner: owner, Namespace: recipe.DefaultNamespace}
	return metadata.NewOutgoingContext(context.Background(), who.Metadata())
}

func serve(server *grpc.Server) (conn *grpc.ClientConn, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener) // until Stop
	}()
	conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		panic(err)
	}
	return conn, func() {
		_ = conn.Close()
		server.Stop()
		<-served
	}
}
