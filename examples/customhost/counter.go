package main

import (
	"context"
	"strconv"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	counterv1 "example.com/conclave-examples/customhost/proto/counter/v1"
	"github.com/conclavehq/conclave/core/recipe"
)

// Counter is a recipe: numbers that only grow.
type Counter struct{}

// Info describes the recipe.
func (Counter) Info() recipe.Info {
	return recipe.Info{Name: "counter", Version: "0.1.0", Summary: "Numbers that only grow"}
}

// Open starts an instance.
func (Counter) Open(_ context.Context, env recipe.Env, reg grpc.ServiceRegistrar) (recipe.Instance, error) {
	s := &service{env: env}
	counterv1.RegisterCounterServiceServer(reg, s)
	return s, nil
}

type service struct {
	counterv1.UnimplementedCounterServiceServer

	env recipe.Env
}

// Close has nothing to end.
func (*service) Close(context.Context) error { return nil }

// Next adds one, in a transaction that commits only if nobody else did.
func (s *service) Next(ctx context.Context, r *counterv1.NextRequest) (*counterv1.NextResponse, error) {
	prefix, err := s.env.Key("default", r.GetName())
	if err != nil {
		return nil, recipe.Status(err)
	}
	key := prefix + "value"
	for {
		got, err := s.env.Client.Get(ctx, key)
		if err != nil {
			return nil, recipe.Status(err)
		}
		var value, rev int64
		for _, kv := range got.Kvs {
			rev = kv.ModRevision
			if value, err = strconv.ParseInt(string(kv.Value), 10, 64); err != nil {
				return nil, err
			}
		}
		put, err := s.env.Client.Txn(ctx).
			If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).
			Then(clientv3.OpPut(key, strconv.FormatInt(value+1, 10))).Commit()
		if err != nil {
			return nil, recipe.Status(err)
		}
		if put.Succeeded {
			return &counterv1.NextResponse{Value: value + 1}, nil
		}
	}
}
