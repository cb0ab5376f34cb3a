// Package host runs recipes as services: it has an etcd, in its own process or
// elsewhere, opens recipes on it, and serves them, with the sessions of remote
// callers, over gRPC and HTTP on one port.
//
// A program of its own needs a configuration and the recipes:
//
//	h, err := host.New(host.Config{DataDir: "data"}, host.WithRecipe(mine.Recipe{}))
//	if err != nil {
//		return err
//	}
//	return h.Run(ctx)
//
// With fx, [Module] is the same: it takes a [Config] and every recipe that
// [Recipe] provides, and starts and stops the host with the program.
//
// # Life
//
// Start takes the API's address, starts etcd, opens the recipes in the order of
// their names and then serves them; Stop does the reverse, within two seconds,
// with a majority of etcd's members or without. What a caller owns stands under
// its own lease in etcd, so that a host which is killed and comes back, or
// another host of the same etcd, goes on where it was.
//
// # Safety
//
// The API listens on loopback. Any other address needs TLS, or the flag that
// says that the network is trusted. Requests of web pages are refused unless
// they come from the host's own page.
package host
