//go:build unix

package host_test

import (
	"context"
	"fmt"
	"os"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/recipes/lock"
)

const endpointEnv = "HOST_TEST_ENDPOINT"

func children() map[string]func() int { return map[string]func() int{"host": hostProcess} }

// hostProcess runs a host on the etcd that the environment names, until it is
// killed.
func hostProcess() int {
	h, err := host.New(host.Config{API: host.API{Listen: "127.0.0.1:0"}, Etcd: host.Etcd{Endpoints: []string{os.Getenv(endpointEnv)}}},
		host.WithRecipe(lock.Recipe{}))
	if err == nil {
		err = h.Start(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("ready " + h.API())
	<-h.Done()
	return 1
}
