package barrier

// recipe is the package's part of the keyspace: every key of a barrier begins with
// /conclave/<namespace>/barrier/<name>/. Which keys follow, and which transactions
// write them, is the protocol's: barrier/internal/rendezvous.
const recipe = "barrier"
