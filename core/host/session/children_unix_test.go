//go:build unix

package session_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	sessionv1 "github.com/conclavehq/conclave/api/conclave/session/v1"
)

func children() map[string]func() int { return map[string]func() int{"owner": owner} }

// owner is a process with a session: it opens one with fast release at the host
// ADDR, says so, and keeps it alive until it is killed.
func owner() int {
	if err := own(context.Background(), os.Getenv("ADDR"), os.Getenv("NS")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func own(ctx context.Context, addr, namespace string) error {
	cc, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	c := sessionv1.NewSessionServiceClient(cc)
	opened, err := c.Open(ctx, &sessionv1.OpenRequest{Namespace: namespace, FastRelease: true})
	if err != nil {
		return err
	}
	stream, err := c.KeepAlive(ctx)
	if err != nil {
		return err
	}
	beats := time.NewTicker(opened.GetHeartbeat().AsDuration())
	for seq := int64(1); ; seq++ {
		if err := stream.Send(&sessionv1.KeepAliveRequest{SessionId: opened.GetSessionId(), Namespace: namespace, Sequence: seq}); err != nil {
			return err
		}
		if _, err := stream.Recv(); err != nil {
			return err
		}
		if seq == 1 {
			fmt.Println("session " + opened.GetSessionId())
		}
		<-beats.C
	}
}
