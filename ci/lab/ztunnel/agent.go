package main

import (
	"fmt"
	"io"
	"log"
	"net"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"istio.io/istio/pkg/zdsapi"
)

const agentSocket = "/var/run/ztunnel/ztunnel.sock"

// servePods serves the pods that the CNI agent sends (ZDS), until the connection to it ends.
func servePods(istiod *istiod, state *state) error {
	agent, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: agentSocket, Net: "unixpacket"})
	if err != nil {
		return err
	}
	defer agent.Close()
	hello, _ := proto.Marshal(&zdsapi.ZdsHello{Version: zdsapi.Version_V1})
	if _, err := agent.Write(hello); err != nil {
		return err
	}
	pods := map[string]*pod{}
	defer func() {
		for uid := range pods {
			drop(pods, uid)
		}
	}()
	buffer, oob := make([]byte, 4096), make([]byte, 256)
	for {
		n, oobn, _, _, err := agent.ReadMsgUnix(buffer, oob)
		if err != nil {
			return err
		}
		if n == 0 {
			return io.EOF
		}
		request := &zdsapi.WorkloadRequest{}
		if err := proto.Unmarshal(buffer[:n], request); err != nil {
			return err
		}
		ack := &zdsapi.Ack{}
		switch {
		case request.GetAdd() != nil:
			if err := add(pods, request.GetAdd(), oob[:oobn], istiod, state); err != nil {
				ack.Error = err.Error()
			}
		case request.GetDel() != nil:
			drop(pods, request.GetDel().Uid)
		case request.GetSnapshotSent() != nil:
			ready.Store(true)
		}
		answer, _ := proto.Marshal(&zdsapi.WorkloadResponse{Payload: &zdsapi.WorkloadResponse_Ack{Ack: ack}})
		if _, err := agent.Write(answer); err != nil {
			return err
		}
	}
}

func add(pods map[string]*pod, added *zdsapi.AddWorkload, oob []byte, istiod *istiod, state *state) error {
	netns, err := descriptor(oob)
	if err != nil {
		return err
	}
	drop(pods, added.Uid)
	info := added.GetWorkloadInfo()
	made := &pod{
		name:     info.GetNamespace() + "/" + info.GetName(),
		identity: fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/%s", info.GetNamespace(), info.GetServiceAccount()),
		netns:    netns, istiod: istiod, state: state, gone: make(chan struct{}),
	}
	err = made.begin()
	log.Printf("add %s: %v", made.name, err)
	if err == nil {
		pods[added.Uid] = made
		proxies.Add(1)
	}
	return err
}

func drop(pods map[string]*pod, uid string) {
	if known := pods[uid]; known != nil {
		known.end()
		delete(pods, uid)
		proxies.Add(-1)
	}
}

// descriptor returns the file descriptor of the network that came with a message.
func descriptor(oob []byte) (int, error) {
	parsed, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return -1, err
	}
	for i := range parsed {
		if fds, err := unix.ParseUnixRights(&parsed[i]); err == nil && len(fds) > 0 {
			return fds[0], nil
		}
	}
	return -1, fmt.Errorf("no network came with the pod")
}
