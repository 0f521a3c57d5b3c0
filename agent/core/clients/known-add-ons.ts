/** What is known to break without IMDS, and what its users ended with. */
export interface AddOn {
  readonly what: string;
  /** Beginnings of the names that its own manifests and charts give to its pods. */
  readonly pods: readonly string[];
  readonly breaks: string;
  readonly fix: string;
  /** Threads that say so. */
  readonly from: readonly string[];
}

/** The cure for whatever finds its region or its credentials by an AWS SDK, where IMDS is the last place that is tried. */
export const ANY_CLIENT = 'give it a role of its own (EKS Pod Identity, IRSA) and AWS_REGION; if it is part of the node, hostNetwork';

/** A pod is known by its name alone, and anybody can take a name: this is advice, and decides nothing. */
export const KNOWN_ADD_ONS: readonly AddOn[] = [
  {
    what: 'AWS Load Balancer Controller',
    pods: ['aws-load-balancer-controller-'],
    breaks: 'it does not start: it asks IMDS for its region and VPC',
    fix: '--aws-region and --aws-vpc-id (Helm: region, vpcId), and a role of its own',
    from: ['kubernetes-sigs/aws-load-balancer-controller#1561', 'kubernetes-sigs/aws-load-balancer-controller#4307', 'kubernetes-sigs/karpenter#1769'],
  },
  {
    what: 'EBS CSI driver',
    pods: ['ebs-csi-controller-', 'ebs-csi-node-'],
    breaks: 'without AWS_REGION the controller may not start; the node pod counts how many volumes fit by what Kubernetes knows, which may be wrong',
    fix: 'AWS_REGION and a role of its own for the controller; look at the attach limit, or hostNetwork for the node pod',
    from: ['kubernetes-sigs/aws-ebs-csi-driver#474', 'kubernetes-sigs/aws-ebs-csi-driver#2031', 'kubernetes-sigs/aws-ebs-csi-driver#2262'],
  },
  {
    what: 'CloudWatch agent',
    pods: ['cloudwatch-agent-', 'amazon-cloudwatch-agent-'],
    breaks: 'it does not find its instance, and without a role of its own no credentials',
    fix: 'hostNetwork (the chart of the add-on sets it since 2024-08), RUN_WITH_IRSA and a role of its own',
    from: ['aws/containers-roadmap#1060', 'aws/amazon-cloudwatch-agent#249', 'aws-observability/helm-charts#82'],
  },
  {
    what: 'Fluent Bit for AWS',
    pods: ['aws-for-fluent-bit-', 'fluent-bit-'],
    breaks: 'its filter `aws` may wait for ever, and then no log is sent; without a role of its own none is either',
    fix: 'hostNetwork with dnsPolicy ClusterFirstWithHostNet, or no filter `aws` and a role of its own',
    from: ['aws/aws-for-fluent-bit#386', 'fluent/fluent-bit#10051', 'fluent/fluent-bit#10141'],
  },
  {
    what: 'Datadog agent',
    pods: ['datadog-'],
    breaks: 'it finds neither the name of the cluster nor the instance, and may count a host twice',
    fix: 'datadog.clusterName (DD_CLUSTER_NAME) and providers.eks.ec2.useHostnameFromFile, or hostNetwork',
    from: ['DataDog/datadog-agent#40358', 'DataDog/datadog-agent#9011', 'DataDog/helm-charts#419'],
  },
  {
    what: 'OpenTelemetry collector',
    pods: ['opentelemetry-collector-', 'otel-collector-', 'adot-collector-'],
    breaks: 'the resource detectors `ec2` and `eks` add nothing',
    fix: 'leave `ec2` out of the detectors; `eks` can ask the API with a role of its own; or hostNetwork',
    from: ['open-telemetry/opentelemetry-collector-contrib#40205'],
  },
  {
    what: 'AWS Node Termination Handler',
    pods: ['aws-node-termination-handler-'],
    breaks: 'watching IMDS is its work: it learns of no interruption',
    fix: 'hostNetwork (the default of its chart), or the mode that reads an SQS queue',
    from: ['aws/aws-node-termination-handler#74', 'aws/aws-node-termination-handler#277'],
  },
  {
    what: 'Cluster Autoscaler',
    pods: ['cluster-autoscaler-'],
    breaks: 'without AWS_REGION it asks IMDS for it, and does not start',
    fix: 'AWS_REGION, and a role of its own',
    from: ['kubernetes/autoscaler#1208', 'eksctl-io/eksctl#5718'],
  },
];

/** The add-on that a pod is by its name; the longest beginning wins. */
export const addOnOf = (pod: string): AddOn | undefined =>
  KNOWN_ADD_ONS.flatMap((addOn) => addOn.pods.filter((start) => pod.startsWith(start)).map((start) => ({ addOn, length: start.length }))).sort((a, b) => b.length - a.length)[0]?.addOn;
