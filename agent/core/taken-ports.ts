/**
 * TCP ports that programs on an EKS node listen on in the node's own network, where we listen too. Two programs on one
 * port is one program that does not start, and after a reboot that may be kubelet: so these are refused before they clash.
 * Not in the list: what listens in a pod's network (CoreDNS, the EBS CSI node's 9808).
 */
export const TAKEN_PORTS: ReadonlyMap<number, string> = new Map([
  [22, 'sshd'],
  // kubernetes/cluster/addons/dns/nodelocaldns: binds 169.254.20.10 and the cluster's DNS address; systemd-resolved 127.0.0.53.
  [53, 'NodeLocal DNSCache and systemd-resolved'],
  [9253, "NodeLocal DNSCache's metrics"],
  // eks-pod-identity-agent cmd/server.go: --port 80, --probe-port 2703, --metrics-port 2705.
  [80, 'the EKS Pod Identity agent'],
  [2703, "the EKS Pod Identity agent's probe"],
  [2705, "the EKS Pod Identity agent's metrics"],
  // eks-node-monitoring-agent's chart: probe 8002, metrics 8003.
  [8002, "the EKS node monitoring agent's probe"],
  [8003, "the EKS node monitoring agent's metrics"],
  // aws-network-policy-agent pkg/config/runtime_config.go :8162, :8163; pkg/rpc/rpc_handler.go 127.0.0.1:50052.
  [8162, "the VPC CNI network policy agent's metrics"],
  [8163, "the VPC CNI network policy agent's probe"],
  [50052, 'the VPC CNI network policy agent'],
  // amazon-vpc-cni-k8s: ipamd's gRPC 127.0.0.1:50051, metrics :61678, introspection 127.0.0.1:61679; its ports go up to 61680.
  [50051, "the VPC CNI's ipamd"],
  [61678, "the VPC CNI's metrics"],
  [61679, "the VPC CNI's introspection"],
  [61680, 'the VPC CNI'],
  // aws-efs-csi-driver's chart: node.healthPort, hostNetwork.
  [9809, "the EFS CSI driver's probe"],
  [9100, "Prometheus' node exporter"],
  // kubernetes pkg/cluster/ports/ports.go.
  [10248, "kubelet's healthz"],
  [10249, "kube-proxy's metrics"],
  [10250, 'kubelet'],
  [10255, "kubelet's read-only port"],
  [10256, "kube-proxy's healthz"],
  // node-problem-detector cmd/options: --port 20256, --prometheus-port 20257.
  [20256, 'node-problem-detector'],
  [20257, "node-problem-detector's metrics"],
]);
