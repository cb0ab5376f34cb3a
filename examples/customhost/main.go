// Command customhost is a Conclave host with a recipe of its own beside the
// standard lock, in one process.
package main

import (
	"flag"
	"fmt"

	"go.uber.org/fx"

	"github.com/conclavehq/conclave/core/host"
	"github.com/conclavehq/conclave/recipes/lock"
)

func main() {
	config := host.Config{DataDir: "customhost.data"}
	flag.StringVar(&config.DataDir, "data-dir", config.DataDir, "directory for the data")
	flag.StringVar(&config.API.Listen, "api-addr", host.DefaultListen, "host:port for the API")
	flag.StringVar(&config.Etcd.ListenClient, "client-addr", "", "host:port for etcd clients")
	flag.StringVar(&config.Etcd.ListenPeer, "peer-addr", "", "host:port for raft")
	flag.Parse()
	fx.New(
		fx.NopLogger,
		host.Module,
		fx.Supply(config),
		host.Add(host.WithRecipe(lock.Recipe{}), host.WithRecipe(Counter{})),
		fx.Invoke(func(l fx.Lifecycle, h *host.Host) {
			l.Append(fx.StartHook(func() { fmt.Println("ready api=" + h.API()) }))
		}),
	).Run()
}
