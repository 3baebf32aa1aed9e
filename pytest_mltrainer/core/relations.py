"""Which diagnosis is known to follow from which, and why."""

from collections.abc import Mapping

FOLLOWS: Mapping[str, Mapping[str, str]] = {
    "bad_input_values": {"nan_loss": "one value that is not finite spoils every weight"},
    "unnormalized_data": dict.fromkeys(
        ("nan_loss", "exploding_gradients", "saturation", "dead_relu", "unstable_training",
         "convergence_stall", "underfitting"), "inputs of such scales make it"),
    "bad_init": dict.fromkeys(
        ("nan_loss", "exploding_gradients", "vanishing_gradients", "saturation", "dead_relu",
         "unstable_training", "convergence_stall", "underfitting", "input_ignored", "lr_too_low"),
        "weights that start so make it"),
    "loss_mismatch": dict.fromkeys(
        ("nan_loss", "exploding_gradients", "vanishing_gradients", "dead_relu", "saturation",
         "unstable_training", "convergence_stall", "underfitting", "lr_too_low"),
        "a loss that does not fit the outputs learns slowly or not at all"),
    "params_not_updated": dict.fromkeys(
        ("convergence_stall", "underfitting", "lr_too_low", "vanishing_gradients"),
        "parameters that stay as they are learn nothing"),
    "missing_zero_grad": dict.fromkeys(
        ("nan_loss", "exploding_gradients", "unstable_training", "dead_relu", "saturation",
         "convergence_stall", "underfitting"), "gradients that add up from step to step make it"),
    "input_ignored": dict.fromkeys(
        ("convergence_stall", "underfitting", "vanishing_gradients"),
        "what does not depend on the input cannot be learned"),
    "batch_mixing": dict.fromkeys(
        ("overfitting", "train_eval_mismatch", "label_noise"),
        "outputs depend on who else is in the batch"),
    "train_eval_mismatch": dict.fromkeys(
        ("overfitting", "underfitting", "label_noise"),
        "the model is another one in evaluation mode"),
    "data_leakage": {"overfitting": "shared rows make the comparison of splits void"},
    "train_val_skew": dict.fromkeys(
        ("overfitting", "train_eval_mismatch", "class_imbalance", "label_noise"),
        "the splits differ, which looks like a gap"),
    "unshuffled_data": dict.fromkeys(
        ("unstable_training", "convergence_stall", "underfitting"),
        "batches of one class pull the weights to and fro"),
    "nan_loss": dict.fromkeys(
        ("exploding_gradients", "unstable_training", "convergence_stall", "underfitting"),
        "the way to the overflow"),
    "exploding_gradients": dict.fromkeys(
        ("nan_loss", "unstable_training", "dead_relu", "saturation", "convergence_stall",
         "underfitting"), "too large steps overflow, kill units and flatten the rest"),
    "dead_relu": dict.fromkeys(
        ("convergence_stall", "underfitting"),
        "dead units let no gradient through"),
    "saturation": dict.fromkeys(
        ("vanishing_gradients", "unstable_training", "convergence_stall", "underfitting"),
        "flat activations let no gradient through"),
    "vanishing_gradients": dict.fromkeys(
        ("lr_too_low", "overfitting", "convergence_stall", "underfitting"),
        "layers without gradient learn nothing"),
    "unstable_training": dict.fromkeys(
        ("exploding_gradients", "saturation", "dead_relu", "convergence_stall", "underfitting"),
        "a learning rate that is too high shows in it"),
    "lr_too_low": dict.fromkeys(
        ("convergence_stall", "underfitting"), "weights that hardly move learn hardly anything"),
    "convergence_stall": {"underfitting": "what stands still has not learned its training data"},
    "label_noise": dict.fromkeys(
        ("overfitting", "underfitting"), "wrong labels can only be learned by heart"),
    "class_imbalance": dict.fromkeys(
        ("convergence_stall", "underfitting"), "guessing the largest class is good enough"),
    "overfitting": {"resource_inefficiency": "epochs after the best one only fit noise"},
}  # fmt: skip
"""What is known to follow: cause, consequence, why. A consequence never stands before its cause.

Where two may cause each other, the kinds of their causes decide which stands first.
"""
