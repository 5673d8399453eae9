// anacrolix/dht nodes, one per address, that do what lines of JSON on standard input say; see libtorrent_nodes.py, which
// speaks the same.
//
//	nodes BOOTSTRAP LISTEN...
package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/dht/v2/exts/getput"
	"github.com/anacrolix/dht/v2/krpc"
	peerstore "github.com/anacrolix/dht/v2/peer-store"
	"github.com/anacrolix/torrent/bencode"
	"golang.org/x/time/rate"
)

type request struct {
	ID       int    `json:"id"`
	Node     int    `json:"node"`
	Do       string `json:"do"`
	InfoHash string `json:"info_hash"`
	Port     int    `json:"port"`
	Value    string `json:"value"`
	Seed     string `json:"seed"`
	Salt     string `json:"salt"`
	Target   string `json:"target"`
	Key      string `json:"key"`
}

type answer map[string]any

var output sync.Mutex

func say(what answer) {
	output.Lock()
	defer output.Unlock()
	line, _ := json.Marshal(what)
	fmt.Println(string(line))
}

func main() {
	bootstrap, listen := strings.Split(os.Args[1], ","), os.Args[2:]
	var nodes []*dht.Server
	for i, address := range listen {
		known := append(append([]string{}, bootstrap...), listen[:min(i, 3)]...)
		nodes = append(nodes, start(address, known))
	}
	say(answer{"version": "anacrolix/dht " + version()})
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var asked request
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			continue
		}
		go func() {
			found, err := do(nodes[asked.Node], asked)
			if err != nil {
				found = answer{"error": err.Error()}
			}
			found["id"] = asked.ID
			say(found)
		}()
	}
}

func start(address string, known []string) *dht.Server {
	conn, err := net.ListenPacket("udp4", address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	config := dht.NewDefaultServerConfig()
	config.Conn = conn
	config.PeerStore = &store{}
	// The usual limit, 25 datagrams a second, is one for all nodes of a process, and what is above it is dropped.
	config.SendLimiter = rate.NewLimiter(rate.Inf, 0)
	config.QueryResendDelay = func() time.Duration { return 500 * time.Millisecond }
	config.StartingNodes = func() (addresses []dht.Addr, err error) {
		for _, name := range known {
			if udp, err := net.ResolveUDPAddr("udp4", name); err == nil && name != "" {
				addresses = append(addresses, dht.NewAddr(udp))
			}
		}
		return
	}
	server, err := dht.NewServer(config)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go server.Bootstrap()
	return server
}

func do(server *dht.Server, asked request) (answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	switch asked.Do {
	case "nodes":
		// Tables are filled by answers only: look about until there are some.
		if server.NumNodes() == 0 {
			server.BootstrapContext(ctx)
		}
		return answer{"nodes": server.NumNodes()}, nil
	case "announce", "get_peers":
		return peers(server, asked)
	case "put":
		return put(ctx, server, asked)
	case "get":
		return get(ctx, server, asked)
	}
	return nil, fmt.Errorf("no such thing: %q", asked.Do)
}

func peers(server *dht.Server, asked request) (answer, error) {
	var options []dht.AnnounceOpt
	if asked.Do == "announce" {
		options = append(options, dht.AnnouncePeer(dht.AnnouncePeerOpts{Port: asked.Port}))
	}
	walk, err := server.AnnounceTraversal([20]byte(bytes(asked.InfoHash)), options...)
	if err != nil {
		return nil, err
	}
	defer walk.Close()
	found := [][2]any{}
	for values := range walk.Peers {
		for _, peer := range values.Peers {
			found = append(found, [2]any{peer.IP.String(), peer.Port})
		}
	}
	return answer{"peers": found}, nil
}

func put(ctx context.Context, server *dht.Server, asked request) (answer, error) {
	item := bep44.Put{V: bencode.Bytes(bytes(asked.Value)), Salt: bytes(asked.Salt), Seq: 1}
	var private ed25519.PrivateKey
	if asked.Seed != "" {
		private = ed25519.NewKeyFromSeed(bytes(asked.Seed))
		key := [32]byte(private.Public().(ed25519.PublicKey))
		item.K = &key
		item.Sign(private)
	}
	_, err := getput.Put(ctx, krpc.ID(item.Target()), server, item.Salt, func(int64) bep44.Put { return item })
	return answer{}, err
}

func get(ctx context.Context, server *dht.Server, asked request) (answer, error) {
	salt := bytes(asked.Salt)
	target := bytes(asked.Target)
	if asked.Key != "" {
		sum := sha1.Sum(append(bytes(asked.Key), salt...))
		target = sum[:]
	}
	found, _, err := getput.Get(ctx, bep44.Target(target), server, nil, salt)
	if err != nil {
		return answer{"value": nil}, nil
	}
	return answer{"value": hex.EncodeToString(found.V)}, nil
}

// store keeps announced peers. The library has such a thing, peer-store.InMemory, but that of 2.23.0 keeps addresses
// without ports and reads the last two bytes of the address as the port.
type store struct {
	sync.Mutex
	peers map[peerstore.InfoHash][]krpc.NodeAddr
}

func (s *store) AddPeer(hash peerstore.InfoHash, peer krpc.NodeAddr) {
	s.Lock()
	defer s.Unlock()
	if s.peers == nil {
		s.peers = map[peerstore.InfoHash][]krpc.NodeAddr{}
	}
	s.peers[hash] = append(s.peers[hash], peer)
}

func (s *store) GetPeers(hash peerstore.InfoHash) []krpc.NodeAddr {
	s.Lock()
	defer s.Unlock()
	return append([]krpc.NodeAddr{}, s.peers[hash]...)
}

// bytes are those of hexadecimal digits; none are nil, for an empty salt is not the same as none.
func bytes(digits string) []byte {
	if digits == "" {
		return nil
	}
	out, _ := hex.DecodeString(digits)
	return out
}

func version() string {
	if build, ok := debug.ReadBuildInfo(); ok {
		for _, module := range build.Deps {
			if module.Path == "github.com/anacrolix/dht/v2" {
				return module.Version
			}
		}
	}
	return "?"
}
