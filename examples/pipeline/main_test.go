package main

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
)

var etcd *coretest.Etcd

func TestMain(m *testing.M) { coretest.Main(m, &etcd) }

func TestEveryOrderTakesEveryStepOnce(t *testing.T) {
	const orders = 20
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s, err := core.NewSession(ctx, etcd.Client(t))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	shipped := etcd.Record(t, "/orders/")
	work, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	var out bytes.Buffer
	go func() { done <- pipeline(work, s, orders, &out) }()
	shipped.Wait(3 * orders)
	stop()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("pipeline: %v", err)
	}
	kvs := etcd.Dump(t, "/orders/")
	if len(kvs) != 3*orders {
		t.Errorf("%d steps, want %d", len(kvs), 3*orders)
	}
	for _, kv := range kvs {
		if kv.Version != 1 {
			t.Errorf("%s was done %d times", kv.Key, kv.Version)
		}
	}
}
